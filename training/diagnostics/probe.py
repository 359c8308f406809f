"""A look inside a network between two epochs, at a few training pictures: gradients, silent units, answers."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# So many bytes of pictures at most, and of each class at most so many: a look has to cost next to nothing.
SAMPLE_BYTES, A_CLASS = 4 * 1024 * 1024, 2


@dataclass(frozen=True, eq=False)
class Samples:
    """Training pictures of every class, few enough to go to a process with the training.

    Args:
        pixels: ``uint8`` ``(n, pixels)``.
        labels: the places of their classes, ``int64`` ``(n,)``.
        classes: in the order of the network's answers.
    """

    pixels: np.ndarray
    labels: np.ndarray
    classes: list[str]

    @classmethod
    def of(cls, pictures: dict[str, list[np.ndarray]]) -> "Samples":
        """The first ones of each class; they are ``uint8`` ``(height, width, channels)``."""
        size = max(picture.size for found in pictures.values() for picture in found)
        count = max(1, min(A_CLASS, SAMPLE_BYTES // (size * len(pictures))))
        first = [found[:count] for found in pictures.values()]
        labels = np.repeat(np.arange(len(first)), [len(found) for found in first])
        return cls(np.stack([picture.ravel() for found in first for picture in found]), labels, list(pictures))


class Probe:
    """Looks at a network from time to time.

    Args:
        model: takes ``uint8`` ``(batch, pixels)``, returns probabilities ``(batch, classes)``.
        samples: what it is shown.
    """

    def __init__(self, model: keras.Model, samples: Samples) -> None:
        self.pixels = tf.constant(samples.pixels)
        self.labels = samples.labels
        self.rectified = [layer for layer in model.layers if layer.trainable and _is_rectified(layer)]
        self.inside = keras.Model(model.inputs, [model.output, *(layer.output for layer in self.rectified)])
        self.kernels = [variable for variable in model.trainable_variables if len(variable.shape) > 1]
        self.begin = [variable.numpy() for variable in self.kernels]

    def look(self) -> dict[str, Any]:
        """What is seen now.

        Returns:
            ``gradients``, the root mean square of the loss's gradient by kernel, from the first layer to the last;
            ``dead``, by ReLU layer the fraction of its units that are 0 for every picture; ``never_predicted``, the
            places of the classes that are the answer to none; ``weight_change``, how far the kernels are from where
            they were at the probe's beginning, as a fraction of their length.
        """
        with tf.GradientTape() as tape:
            probabilities, *activations = tf.nest.flatten(self.inside(self.pixels, training=False))
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(self.labels, probabilities))
        gradients = tape.gradient(loss, self.kernels)
        answers = set(np.argmax(probabilities.numpy(), axis=1).tolist())
        return {
            "gradients": {
                kernel.name.split("/")[0]: float(tf.sqrt(tf.reduce_mean(tf.square(gradient))))
                for kernel, gradient in zip(self.kernels, gradients, strict=True)
            },
            "dead": {
                layer.name: float(np.mean(np.max(values, axis=tuple(range(values.ndim - 1))) <= 0))
                for layer, values in zip(self.rectified, (found.numpy() for found in activations), strict=True)
            },
            "never_predicted": sorted(set(self.labels.tolist()) - answers),
            "weight_change": self._weight_change(),
        }

    def _weight_change(self) -> float:
        pairs = [(kernel.numpy(), before) for kernel, before in zip(self.kernels, self.begin, strict=True)]
        way = sum(float(np.square(now - before).sum()) for now, before in pairs)
        return float(np.sqrt(way / max(sum(float(np.square(before).sum()) for _, before in pairs), 1e-12)))


def _is_rectified(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.ReLU) or getattr(layer, "activation", None) is keras.activations.relu
