"""The network that a training starts from."""

from dataclasses import dataclass, replace

import keras
import numpy as np

from models.frozen_layers import split_network
from models.model_settings import Network
from models.networks import build_network, unfreeze
from preprocessing.normalization import Normalization


@dataclass(frozen=True)
class InitialNetwork:
    """Builds the network that a training starts from, in the driver as in each process of the training.

    Args:
        network: the network's settings.
        shape: the shape ``(height, width, channels)`` of a picture.
        num_classes: the number of classes.
        normalization: the normalization of the pixels.
        seed: the seed of the initial weights.
        weights: the initial weights. None: those that the network is built with.
        first_layer: the first layer that is trained, see :func:`models.networks.unfreeze`. None: the network's default.
        split: whether the training rows are outputs of the frozen layers, see :mod:`training.frozen_outputs`, and the
            other layers are trained on them.
    """

    network: Network
    shape: tuple[int, int, int]
    num_classes: int
    normalization: Normalization
    seed: int
    weights: list[np.ndarray] | None = None
    first_layer: str | None = None
    split: bool = False

    def build(self) -> keras.Model:
        """The whole network, from ``uint8`` pixels ``(n, pixels)`` to probabilities ``(n, classes)``."""
        keras.utils.set_random_seed(self.seed)
        network = self.network if self.weights is None else replace(self.network, weights="none")
        model = build_network(network, self.shape, self.num_classes, self.normalization)
        if self.weights is not None:
            model.set_weights(self.weights)
        if self.first_layer is not None:
            unfreeze(model, self.first_layer)
        return model

    def frozen_layers(self) -> keras.Model:
        """The frozen layers of a network that is split."""
        return split_network(self.build())[0]

    def trained_layers(self) -> keras.Model:
        """The layers that take the training rows: the whole network, or what follows the frozen layers."""
        model = self.build()
        return split_network(model)[1] if self.split else model

    def with_trained(self, weights: list[np.ndarray]) -> keras.Model:
        """The whole network with these weights in :meth:`trained_layers`."""
        if not self.split:
            return replace(self, weights=weights).build()
        model = self.build()
        split_network(model)[1].set_weights(weights)
        return model
