from pathlib import Path

import keras
import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from models.calibration import calibrate
from models.prediction import PREDICTIONS, judge

CLASSES = ["A", "B", "C"]


def predictions(spark: SparkSession, probabilities: np.ndarray, labels: np.ndarray) -> DataFrame:
    rows = [
        (f"{i:05}", "s", CLASSES[label], CLASSES[p.argmax()], [float(x) for x in p])
        for i, (p, label) in enumerate(zip(probabilities, labels, strict=True))
    ]
    return spark.createDataFrame(rows, PREDICTIONS)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.layers.Dense(3, activation="softmax", input_shape=(4,), name="last")])


def test_a_network_that_is_too_sure_becomes_as_sure_as_it_is_right(spark: SparkSession, model: keras.Model) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 4)).astype(np.float32)
    honest = model.predict(x, verbose=0)
    labels = np.array([rng.choice(3, p=p / p.sum()) for p in honest.astype(float)])
    sure = keras.models.clone_model(model)
    sure.set_weights([weights * 4 for weights in model.get_weights()])
    before = predictions(spark, sure.predict(x, verbose=0), labels)
    found = calibrate(sure, before, CLASSES)
    assert found.temperature == pytest.approx(4, rel=0.15)
    assert found.loss_after < found.loss_before
    after = predictions(spark, sure.predict(x, verbose=0), labels)
    assert judge(after, CLASSES).loss == pytest.approx(found.loss_after, rel=1e-3)
    assert judge(after, CLASSES).calibration_error < 0.03 < judge(before, CLASSES).calibration_error
    assert [row["prediction"] for row in after.collect()] == [row["prediction"] for row in before.collect()]


def test_the_calibration_error_is_the_gap_between_sure_and_right(spark: SparkSession) -> None:
    # ten times 0.9 sure and five times right, ten times 0.6 sure and six times right
    probabilities = np.array([[0.9, 0.05, 0.05]] * 10 + [[0.6, 0.2, 0.2]] * 10)
    labels = np.array([0] * 5 + [1] * 5 + [0] * 6 + [2] * 4)
    found = predictions(spark, probabilities, labels)
    assert judge(found, CLASSES).calibration_error == pytest.approx((10 * 0.4 + 10 * 0.0) / 20, abs=1e-6)
    expected = -np.log([0.9] * 5 + [0.05] * 5 + [0.6] * 6 + [0.2] * 4).mean()
    assert judge(found, CLASSES).loss == pytest.approx(expected, rel=1e-5)


def test_the_temperature_is_within_the_saved_model(spark: SparkSession, model: keras.Model, tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    changed = keras.models.clone_model(model)
    changed.set_weights(model.get_weights())
    calibrate(changed, predictions(spark, model.predict(x, verbose=0), np.zeros(50, dtype=int)), CLASSES)
    changed.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(loaded.predict(x, verbose=0), changed.predict(x, verbose=0), rtol=1e-5)
