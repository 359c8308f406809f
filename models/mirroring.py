"""Averages a network's probabilities of a picture and of its mirror image."""

import keras
import numpy as np
from keras import layers

_MIRROR = "mirror"


def average_mirrored(network: keras.Model, shape: tuple[int, int, int]) -> keras.Model:
    """Build the network that averages the probabilities of a picture and of its mirror image (test-time augmentation).

    It shares its layers with the network. Keras has no layer that mirrors pictures, and loads only its own layers
    without further code: a dense layer along the rows of a picture, with a permutation as its weights, does the same.

    Args:
        network: takes pixels, ``uint8`` ``(batch, pixels)``, and returns probabilities, ``(batch, classes)``.
        shape: ``(height, width, channels)`` of a picture.
    """
    width = shape[1]
    # the tensors of the first call, because a layer that is called twice has no single input and output
    calls = [(layer, layer.input, layer.output) for layer in network.layers if not isinstance(layer, layers.InputLayer)]
    reversal = layers.Dense(width, use_bias=False, trainable=False, name=_MIRROR)
    rows = layers.Permute((1, 3, 2), name="mirror_rows")(layers.Reshape(shape, name="mirror_picture")(network.input))
    mirrored = layers.Permute((1, 3, 2), name="mirror_columns")(reversal(rows))
    reversal.set_weights([np.eye(width, dtype=np.float32)[::-1]])
    tensors = {network.input.ref(): layers.Reshape((int(np.prod(shape)),), name="mirror_pixels")(mirrored)}
    for layer, inputs, output in calls:
        values = [tensors[tensor.ref()] for tensor in (inputs if isinstance(inputs, list) else [inputs])]
        tensors[output.ref()] = layer(values if isinstance(inputs, list) else values[0])
    last = calls[-1][2]
    average = layers.Average(name="average")([last, tensors[last.ref()]])
    return keras.Model(network.input, average, name=network.name)


def weights_without_mirror(network: keras.Model) -> list[np.ndarray]:
    """The weights of a network, without those of :func:`average_mirrored`, in the order of ``get_weights``."""
    return [weights for layer in network.layers if layer.name != _MIRROR for weights in layer.get_weights()]
