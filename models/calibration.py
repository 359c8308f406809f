"""Probabilities that mean what they say: one temperature for all classes (Guo et al., 2017)."""

from dataclasses import dataclass

import keras
import numpy as np
from pyspark.sql import DataFrame
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
