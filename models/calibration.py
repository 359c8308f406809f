"""Probabilities that mean what they say: one temperature for all classes (Guo et al., 2017)."""

from dataclasses import dataclass

import keras
import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.optimize import minimize_scalar

# Rows that the temperature is found by: of fixed size, however many there are.
SAMPLE = 10_000


@dataclass(frozen=True)
class Calibration:
    """What the logits were divided by, and the mean loss of the validation rows before and after."""

    temperature: float
    loss_before: float
    loss_after: float


def calibrate(model: keras.Model, predictions: DataFrame, classes: list[str]) -> Calibration:
    """Divide a network's logits by the temperature that makes the validation rows most likely.

    No answer changes, only how sure of it the network is. The weights of the last layer take the temperature in.

    Args:
        model: ends in a dense layer with softmax; it is changed.
        predictions: of validation rows, with the columns of ``PREDICTIONS``.
        classes: in the order of the probabilities.
    """
    rows = predictions.orderBy("id").limit(SAMPLE).select("label", "probabilities").toPandas()
    place = {name: index for index, name in enumerate(classes)}
    labels = rows["label"].map(place).to_numpy()
    logits = np.log(np.maximum(np.stack(rows["probabilities"].to_list()).astype(np.float64), 1e-30))

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        largest = scaled.max(axis=1, keepdims=True)
        total = largest[:, 0] + np.log(np.exp(scaled - largest).sum(axis=1))
        return float((total - scaled[np.arange(len(labels)), labels]).mean())

    # a tenth to ten times: beyond that the validation rows say nothing, as where not one of them is wrong
    found = minimize_scalar(loss, bounds=(np.log(0.1), np.log(10)), method="bounded")
    temperature = float(np.exp(found.x))
    last = model.layers[-1]
    last.set_weights([weights / temperature for weights in last.get_weights()])
    return Calibration(temperature, loss(0.0), float(found.fun))


def calibration_error(predictions: DataFrame, bins: int = 15) -> float:
    """The expected calibration error: how far the probability of the answer is from how often it is right, on average
    over ``bins`` of it (Naeini et al., 2015); 0..1."""
    probability = F.array_max("probabilities")
    by_bin = F.least(F.floor(probability * bins), F.lit(bins - 1))
    right = (F.col("label") == F.col("prediction")).cast("double")
    gaps = predictions.groupBy(by_bin).agg(F.sum(right - probability).alias("gap"), F.count(F.lit(1)).alias("count"))
    total = gaps.agg(F.sum(F.abs("gap")), F.sum("count")).head()
    assert total is not None
    return float(total[0] / total[1])


def mean_loss(predictions: DataFrame, classes: list[str]) -> float:
    """The mean cross-entropy of the true class."""
    places = F.create_map(*[F.lit(value) for place, name in enumerate(classes) for value in (name, place)])
    likelihood = F.col("probabilities")[places[F.col("label")]]
    row = predictions.agg(F.mean(-F.log(F.greatest(likelihood, F.lit(1e-7))))).head()
    assert row is not None
    return float(row[0])
