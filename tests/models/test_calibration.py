from pathlib import Path

import keras
import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from models.calibration import calibrate
from models.prediction import PREDICTIONS, evaluate

CLASS_NAMES = ["A", "B", "C"]


def predictions(spark: SparkSession, probabilities: np.ndarray, labels: np.ndarray) -> DataFrame:
    rows = [
        (f"{i:05}", "s", CLASS_NAMES[label], CLASS_NAMES[p.argmax()], [float(x) for x in p])
        for i, (p, label) in enumerate(zip(probabilities, labels, strict=True))
    ]
    return spark.createDataFrame(rows, PREDICTIONS)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.layers.Dense(3, activation="softmax", input_shape=(4,), name="last")])


def test_calibration_makes_confidence_match_accuracy(spark: SparkSession, model: keras.Model) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 4)).astype(np.float32)
    calibrated_probabilities = model.predict(x, verbose=0)
    labels = np.array([rng.choice(3, p=p / p.sum()) for p in calibrated_probabilities.astype(float)])
    overconfident = keras.models.clone_model(model)
    overconfident.set_weights([weights * 4 for weights in model.get_weights()])
    uncalibrated = predictions(spark, overconfident.predict(x, verbose=0), labels)
    calibration = calibrate(overconfident, uncalibrated, CLASS_NAMES)
    assert calibration.temperature == pytest.approx(4, rel=0.15)
    assert calibration.loss_after < calibration.loss_before
    calibrated = predictions(spark, overconfident.predict(x, verbose=0), labels)
    assert evaluate(calibrated, CLASS_NAMES).loss == pytest.approx(calibration.loss_after, rel=1e-3)
    assert evaluate(calibrated, CLASS_NAMES).calibration_error < 0.03
    assert evaluate(uncalibrated, CLASS_NAMES).calibration_error > 0.03
    assert [row["letter"] for row in calibrated.collect()] == [row["letter"] for row in uncalibrated.collect()]


def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy(spark: SparkSession) -> None:
    # Ten predictions with probability 0.9, of which five are right, and ten with 0.6, of which six are right.
    probabilities = np.array([[0.9, 0.05, 0.05]] * 10 + [[0.6, 0.2, 0.2]] * 10)
    labels = np.array([0] * 5 + [1] * 5 + [0] * 6 + [2] * 4)
    table = predictions(spark, probabilities, labels)
    assert evaluate(table, CLASS_NAMES).calibration_error == pytest.approx((10 * 0.4 + 10 * 0.0) / 20, abs=1e-6)
    expected = -np.log([0.9] * 5 + [0.05] * 5 + [0.6] * 6 + [0.2] * 4).mean()
    assert evaluate(table, CLASS_NAMES).loss == pytest.approx(expected, rel=1e-5)


def test_the_temperature_is_part_of_the_saved_model(spark: SparkSession, model: keras.Model, tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    calibrated = keras.models.clone_model(model)
    calibrated.set_weights(model.get_weights())
    calibrate(calibrated, predictions(spark, model.predict(x, verbose=0), np.zeros(50, dtype=int)), CLASS_NAMES)
    calibrated.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(loaded.predict(x, verbose=0), calibrated.predict(x, verbose=0), rtol=1e-5)
