"""Keras's optimizers, as an experiment names them."""

import keras

from models.settings import Optimizer


def build_optimizer(settings: Optimizer, learning_rate: float) -> keras.optimizers.Optimizer:
    """The optimizer of an experiment, with the learning rate of one process."""
    decay = settings.weight_decay if settings.weight_decay or settings.name == "adamw" else None
    shared = {"learning_rate": float(learning_rate), "weight_decay": decay}
    if settings.name == "sgd":
        return keras.optimizers.SGD(momentum=settings.momentum, **shared)
    if settings.name == "rmsprop":
        return keras.optimizers.RMSprop(momentum=settings.momentum, epsilon=settings.epsilon, **shared)
    kind = keras.optimizers.AdamW if settings.name == "adamw" else keras.optimizers.Adam
    return kind(epsilon=settings.epsilon, **shared)
