"""The outputs of frozen layers are rows that the other layers train on."""

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from models.export import to_onnx
from models.frozen_layers import split_network
from models.model_settings import Network
from models.networks import build_network
from preprocessing.normalization import by_range
from training.frozen_outputs import FrozenOutputs, to_bytes
from training.training_settings import Augmentation

SHAPE = (32, 32, 3)
ROWS = {("one", "A"): 40, ("one", "B"): 10, ("two", "A"): 5}


@pytest.fixture(scope="module")
def features(spark: SparkSession) -> DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (f"{len(source)}{index:011x}{label}", source, label, split, bytearray(rng.bytes(3072)), "AB".index(label) * 1.0)
        for (source, label), count in ROWS.items()
        for index in range(count)
        for split in ("train", "validation")
    ]  # fmt: skip
    columns = "id string, source string, label string, split string, pixels binary, label_index double"
    return spark.createDataFrame(rows, columns).repartition(2)


@pytest.mark.parametrize("first", ["hand_116_conv", None])
def test_both_parts_together_are_the_network(first: str | None) -> None:
    network = build_network(Network("handshape_photo", head=[8], trainable_from=first), SHAPE, 2, by_range(3))
    frozen, trained = split_network(network)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32 * 32 * 3), dtype=np.uint8)
    probabilities = trained.predict(to_bytes(frozen.predict(pixels, verbose=0)), verbose=0)
    np.testing.assert_allclose(probabilities, network.predict(pixels, verbose=0), atol=2e-3)
    trained.set_weights([weights * 0 for weights in trained.get_weights()])
    np.testing.assert_allclose(network.predict(pixels, verbose=0), 0.5)


def outputs_of(features: DataFrame, augmentation: Augmentation) -> tuple[FrozenOutputs, np.ndarray]:
    network = build_network(Network("handshape_photo", head=[8]), SHAPE, 2, by_range(3))
    frozen, _ = split_network(network)
    spark = features.sparkSession
    content = spark.sparkContext.broadcast(to_onnx(frozen, {}))
    validation = features.where("split = 'validation'").orderBy("id").toPandas()
    pixels = np.stack([np.frombuffer(row, dtype=np.uint8) for row in validation["pixels"]])
    expected = frozen.predict(pixels, verbose=0)
    return FrozenOutputs(content, SHAPE, expected.shape[1], augmentation, pictures=120, seed=1), expected


def to_arrays(rows: DataFrame) -> tuple[np.ndarray, np.ndarray]:
    table = rows.toPandas()
    return np.stack([np.frombuffer(row, dtype=np.float16) for row in table["pixels"]]), table["label_index"].to_numpy()


def test_validation_pictures_are_not_changed(features: DataFrame) -> None:
    outputs, expected = outputs_of(features, Augmentation(rotation=30, flip=0.5))
    actual, _ = to_arrays(outputs.of(features, "validation"))
    assert outputs.row_bytes == 2 * actual.shape[1]
    np.testing.assert_allclose(np.sort(actual.sum(axis=1)), np.sort(expected.sum(axis=1)), rtol=1e-2)


def test_training_pictures_are_repeated_until_sources_and_their_classes_have_equal_shares(features: DataFrame) -> None:
    outputs, _ = outputs_of(features, Augmentation())
    actual, labels = to_arrays(outputs.of(features, "train"))
    assert len(actual) == pytest.approx(120, abs=12)
    # source one has 60 pictures, 30 of each class; source two has 60 of class A
    assert (labels == 0).sum() == pytest.approx(90, abs=10)
    assert (labels == 1).sum() == pytest.approx(30, abs=5)
    assert len(np.unique(actual, axis=0)) <= sum(ROWS.values())


def test_augmented_pictures_differ_from_each_other_and_are_the_same_in_every_run(features: DataFrame) -> None:
    outputs, _ = outputs_of(features, Augmentation(rotation=30, shift=0.2))
    first, _ = to_arrays(outputs.of(features, "train"))
    second, _ = to_arrays(outputs.of(features, "train"))
    assert len(np.unique(first, axis=0)) > 0.95 * len(first)
    np.testing.assert_array_equal(np.sort(first, axis=0), np.sort(second, axis=0))
