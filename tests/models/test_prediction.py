import numpy as np
import pytest
from pyspark.sql import SparkSession

from models.export import to_onnx
from models.model_settings import Network
from models.networks import build_network
from models.prediction import effective_size, predict_with_network
from preprocessing.normalization import by_range


@pytest.mark.parametrize("name", ["baseline", "handshape"])
def test_executors_predict_what_the_network_does(spark: SparkSession, name: str) -> None:
    class_names = ["A", "B", "C"]
    model = build_network(Network(name=name), (28, 28, 1), 3, by_range(1))
    pixels = np.random.default_rng(0).integers(0, 256, (1200, 784), dtype=np.uint8)
    rows = [(f"{i:05}", "s", class_names[i % 3], row.tobytes()) for i, row in enumerate(pixels)]
    images = spark.createDataFrame(rows, "id string, source string, label string, pixels binary")
    predictions = predict_with_network(images, to_onnx(model, {}), class_names).orderBy("id").collect()
    expected = model.predict(pixels, verbose=0)
    assert [row["id"] for row in predictions] == [row[0] for row in rows]
    np.testing.assert_allclose([row["probabilities"] for row in predictions], expected, rtol=1e-4, atol=1e-6)
    assert [row["letter"] for row in predictions] == [class_names[i] for i in expected.argmax(axis=1)]


@pytest.mark.parametrize(
    ("correct", "expected"),
    [
        ([[1, 1, 1, 1], [0, 0, 0, 0]] * 10, 20),  # all pictures of a group are alike: each group counts once
        ([[1, 0, 1, 0], [0, 1, 0, 1]] * 10, 20),  # the groups do not differ
        ([[1], [0]] * 40, 80),  # every picture is a group
        ([[1, 1, 1, 1]] * 20, 20),
    ],
)
def test_pictures_of_a_group_count_as_fewer_if_they_are_alike(
    correct: list[list[int]], expected: float, spark: SparkSession
) -> None:
    rows = [
        (f"{group}-{index}", f"g{group}", "s", "A", "A" if value else "B")
        for group, values in enumerate(correct)
        for index, value in enumerate(values)
    ]
    table = spark.createDataFrame(rows, "id string, group string, source string, label string, letter string")
    assert effective_size(table.drop("group"), table) == pytest.approx(expected, rel=0.06)
