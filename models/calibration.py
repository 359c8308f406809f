"""Temperature scaling: one temperature for all classes makes probabilities match accuracy (Guo et al., 2017)."""

from dataclasses import dataclass

import keras
import numpy as np
from pyspark.sql import DataFrame
from scipy.optimize import minimize_scalar

# The temperature is fitted to at most this many validation rows, so that the driver's memory stays bounded.
SAMPLE_ROWS = 10_000


@dataclass(frozen=True)
class Calibration:
    """The temperature that the logits were divided by, and the mean validation loss before and after."""

    temperature: float
    loss_before: float
    loss_after: float


def calibrate(model: keras.Model, predictions: DataFrame, class_names: list[str]) -> Calibration:
    """Divide a network's logits by the temperature that maximizes the likelihood of the validation labels.

    The predicted classes stay the same; only the probabilities change. The weights of the last layer are divided by
    the temperature, so that the saved model is calibrated.

    Args:
        model: a network that ends in a dense layer with softmax; it is changed in place.
        predictions: predictions of the validation rows, with the columns of ``PREDICTIONS``.
        class_names: class names in the order of the probabilities.
    """
    rows = predictions.orderBy("id").limit(SAMPLE_ROWS).select("label", "probabilities").toPandas()
    class_indices = {name: index for index, name in enumerate(class_names)}
    labels = rows["label"].map(class_indices).to_numpy()
    logits = np.log(np.maximum(np.stack(rows["probabilities"].to_list()).astype(np.float64), 1e-30))

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        largest = scaled.max(axis=1, keepdims=True)
        log_sums = largest[:, 0] + np.log(np.exp(scaled - largest).sum(axis=1))
        return float((log_sums - scaled[np.arange(len(labels)), labels]).mean())

    # The bounds 0.1 and 10 keep the temperature finite when no validation row is misclassified.
    optimum = minimize_scalar(loss, bounds=(np.log(0.1), np.log(10)), method="bounded")
    temperature = float(np.exp(optimum.x))
    last_layer = model.layers[-1]
    last_layer.set_weights([weights / temperature for weights in last_layer.get_weights()])
    return Calibration(temperature, loss(0.0), float(optimum.fun))
