"""Measurements inside a network between two epochs, on a few training pictures: gradients, dead units, predictions."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Limits of the pictures, in bytes and per class, so that a measurement takes little time.
SAMPLE_BYTES, PICTURES_PER_CLASS = 4 * 1024 * 1024, 2


@dataclass(frozen=True, eq=False)
class Samples:
    """A few training pictures of every class, which are sent to the processes with the training.

    Args:
        pixels: ``uint8`` ``(n, pixels)``.
        labels: the class indices, ``int64`` ``(n,)``.
        class_names: the class names in the order of the network's outputs.
    """

    pixels: np.ndarray
    labels: np.ndarray
    class_names: list[str]

    @classmethod
    def of(cls, pictures: dict[str, list[np.ndarray]]) -> "Samples":
        """The first pictures of each class, of which each is ``uint8`` ``(height, width, channels)``."""
        size = max(picture.size for group in pictures.values() for picture in group)
        count = max(1, min(PICTURES_PER_CLASS, SAMPLE_BYTES // (size * len(pictures))))
        first = [group[:count] for group in pictures.values()]
        labels = np.repeat(np.arange(len(first)), [len(group) for group in first])
        return cls(np.stack([picture.ravel() for group in first for picture in group]), labels, list(pictures))


class Probe:
    """Measures a network on the same pictures at several epochs.

    Args:
        model: a network from ``uint8`` pixels ``(batch, pixels)`` to probabilities ``(batch, classes)``.
        samples: the pictures.
    """

    def __init__(self, model: keras.Model, samples: Samples) -> None:
        self.pixels = tf.constant(samples.pixels)
        self.labels = samples.labels
        self.rectified = [layer for layer in model.layers if layer.trainable and _is_rectified(layer)]
        self.inside = keras.Model(model.inputs, [model.output, *(layer.output for layer in self.rectified)])
        self.kernels = [variable for variable in model.trainable_variables if len(variable.shape) > 1]
        self.initial = [variable.numpy() for variable in self.kernels]

    def measure(self) -> dict[str, Any]:
        """Measure the network as it is now.

        Returns:
            ``gradients``, the root mean square of the loss's gradient by kernel, from the first layer to the last;
            ``dead``, by ReLU layer the fraction of its units that are 0 for every picture; ``never_predicted``, the
            indices of the classes that are predicted for no picture; ``weight_change``, the norm of the change of all
            kernels since the probe was created, relative to the norm of the initial kernels.
        """
        with tf.GradientTape() as tape:
            probabilities, *activations = tf.nest.flatten(self.inside(self.pixels, training=False))
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(self.labels, probabilities))
        gradients = tape.gradient(loss, self.kernels)
        predicted = set(np.argmax(probabilities.numpy(), axis=1).tolist())
        return {
            "gradients": {
                kernel.name.split("/")[0]: float(tf.sqrt(tf.reduce_mean(tf.square(gradient))))
                for kernel, gradient in zip(self.kernels, gradients, strict=True)
            },
            "dead": {
                layer.name: float(np.mean(np.max(values, axis=tuple(range(values.ndim - 1))) <= 0))
                for layer, values in zip(
                    self.rectified, (activation.numpy() for activation in activations), strict=True
                )
            },
            "never_predicted": sorted(set(self.labels.tolist()) - predicted),
            "weight_change": self._weight_change(),
        }

    def _weight_change(self) -> float:
        pairs = [(kernel.numpy(), initial) for kernel, initial in zip(self.kernels, self.initial, strict=True)]
        change = sum(float(np.square(kernel - initial).sum()) for kernel, initial in pairs)
        return float(np.sqrt(change / max(sum(float(np.square(initial).sum()) for _, initial in pairs), 1e-12)))


def _is_rectified(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.ReLU) or getattr(layer, "activation", None) is keras.activations.relu
