"""Tests of principal components on a Spark session."""

from pathlib import Path

import numpy as np
from pyspark.ml.feature import PCAModel
from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession

from preprocessing.principal_components import fit_principal_components
from preprocessing.synthetic import draw_hands


def test_components_explain_the_stated_variance_and_do_not_depend_on_the_order_of_rows(
    spark: SparkSession, tmp_path: Path
) -> None:
    pixels = draw_hands(np.arange(200) % 4, np.random.default_rng(0)).reshape(200, 784) / 255
    models = []
    for seed in range(3):  # fewer rows than features, so their covariance matrix does not have full rank
        order = np.random.default_rng(seed).permutation(200)
        rows = spark.createDataFrame([(Vectors.dense(row),) for row in pixels[order]], ["assembled"])
        models.append(fit_principal_components(rows, "assembled", 20))
    variance = np.linalg.eigvalsh(np.cov(pixels.T))[::-1]
    for model in models:
        np.testing.assert_allclose(model.explainedVariance.toArray(), variance[:20] / variance.sum(), rtol=1e-9)
        np.testing.assert_allclose(model.pc.toArray(), models[0].pc.toArray(), atol=1e-6)

    reduced = np.array([row.features for row in models[-1].transform(rows).collect()])
    np.testing.assert_allclose(reduced.var(axis=0, ddof=1), variance[:20], rtol=1e-9)
    models[0].write().save(str(tmp_path / "model"))
    assert PCAModel.load(str(tmp_path / "model")).getK() == 20
