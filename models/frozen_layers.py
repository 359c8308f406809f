"""Divides a network into its frozen layers and the layers that are trained, each a network of its own."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from models.errors import TrainingError


def split_network(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Divide a network before its first trainable layer.

    Both parts share their layers with the network: weights that are set in a part are set in the network.

    Args:
        model: the network, whose first layers are frozen.

    Returns:
        The frozen part, which takes pixels, ``uint8`` ``(batch, pixels)``, and returns outputs, ``float32``
        ``(batch, outputs)``; and the trained part, which takes the bytes of these outputs as ``float16``, ``uint8``
        ``(batch, 2 * outputs)``, and returns probabilities. The store and the processes treat the bytes like pixels.

    Raises:
        TrainingError: the first trainable layer is not the only one that the frozen layers lead to.
    """
    position = next(index for index, layer in enumerate(model.layers) if layer.trainable and layer.weights)
    first = model.layers[position]
    shape = tuple(first.input.shape[1:])
    outputs = layers.Input((2 * int(np.prod(shape)),), dtype="uint8", name="outputs")
    halves = tf.bitcast(tf.reshape(outputs, (-1, *shape, 2)), tf.float16)
    tensors = {first.input.ref(): tf.cast(halves, tf.float32)}
    for layer in model.layers[position:]:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        try:
            values = [tensors[tensor.ref()] for tensor in inputs]
        except KeyError:
            raise TrainingError(
                f"network.trainable_from is {first.name}, and its input is not the only one of the later layers: take a"
                f" layer at the beginning of a block, such as the one after {model.layers[position - 1].name}"
            ) from None
        tensors[layer.output.ref()] = layer(values if isinstance(layer.input, list) else values[0])
    trained = keras.Model(outputs, tensors[model.output.ref()], name=model.name)
    return keras.Model(model.input, layers.Flatten()(first.input)), trained
