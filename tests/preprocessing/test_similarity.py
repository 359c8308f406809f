"""Tests of near-duplicates on a Spark session, compared with an exhaustive search over all pairs."""

import itertools

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from scipy.sparse.csgraph import connected_components

from preprocessing.similarity import NEAR, _components, _vectors, count_near_duplicates, describe, similar_groups

PHOTOGRAPHS, COPIES = 60, 6


@pytest.fixture(scope="module")
def described(spark: SparkSession) -> DataFrame:
    """Descriptors of photographs and their near-duplicates, with two labels, in random order."""
    rng = np.random.default_rng(0)
    rows = []
    for photograph in range(PHOTOGRAPHS):
        picture = rng.uniform(0, 255, 256)
        for copy in range(COPIES):
            noisy = np.clip(picture * rng.uniform(0.7, 1) + rng.normal(0, rng.uniform(2, 25), 256), 0, 255)
            split = "validation" if copy == 0 and photograph % 3 == 0 else "train"
            rows.append((f"{rng.integers(1 << 40):x}", "AB"[photograph % 2], bytearray(noisy.astype(np.uint8)), split))
    order = rng.permutation(len(rows))
    frame = spark.createDataFrame([rows[i] for i in order], "id string, label string, descriptor binary, split string")
    return frame.repartition(3).persist()


@pytest.mark.parametrize("shape", [(28, 28, 1), (64, 48, 3), (16, 16, 1), (10, 10, 3), (224, 224, 3)])
def test_a_descriptor_has_the_grays_that_pillow_computes(shape: tuple[int, int, int]) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (5, *shape), dtype=np.uint8)
    for picture, descriptor in zip(pictures, describe(pictures), strict=True):
        image = Image.fromarray(picture.squeeze()).convert("L").resize((16, 16), Image.Resampling.BOX)
        # integers and floating-point numbers may round a half differently
        assert np.abs(descriptor.astype(int) - np.asarray(image).ravel()).max() <= 1


def test_groups_are_those_that_all_pairs_would_give(described: DataFrame) -> None:
    rows = described.toPandas()
    groups = {row["id"]: row["group"] for row in similar_groups(described.drop("split"), 0).collect()}
    assert set(groups) == set(rows["id"])
    expected = {}
    for _, label_rows in rows.groupby("label"):
        vectors = _vectors(label_rows["descriptor"])
        _, component = connected_components(vectors @ vectors.T >= NEAR, directed=False)
        for name in set(component):
            members = label_rows["id"][component == name]
            expected |= dict.fromkeys(members, min(members))
    assert len(set(expected.values())) > PHOTOGRAPHS  # some copies are too noisy to be near-duplicates
    assert groups == expected


def test_near_duplicates_are_counted_within_a_label(described: DataFrame) -> None:
    rows = described.toPandas()
    vectors = _vectors(rows["descriptor"])
    near = (vectors @ vectors.T >= NEAR) & (rows["label"].to_numpy()[:, None] == rows["label"].to_numpy())
    is_training = (rows["split"] == "train").to_numpy()
    expected = near[~is_training][:, is_training].any(axis=1)
    assert count_near_duplicates(described, 0) == {
        "validation": {"pictures": len(expected), "near_duplicates": int(expected.sum())}
    }
    other_labels = described.withColumn("label", F.when(F.col("split") == "train", "C").otherwise(F.col("label")))
    assert count_near_duplicates(other_labels, 0)["validation"]["near_duplicates"] == 0


def test_long_chains_become_one_component(spark: SparkSession) -> None:
    order = np.random.default_rng(0).permutation(40)
    names = [f"n{i:02}" for i in order]
    links = [(max(pair), min(pair)) for pair in itertools.pairwise(names)]
    edges = spark.createDataFrame([*links, ("z2", "z1")], "node string, smaller string")
    groups = {row["id"]: row["group"] for row in _components(edges).collect()}
    assert groups == {name: "n00" for name in names if name != "n00"} | {"z2": "z1"}
