"""Keras's optimizers, as an experiment names them."""

import keras

from models.settings import Optimizer


def build_optimizer(settings: Optimizer, learning_rate: float) -> keras.optimizers.Optimizer:
    """The optimizer of an experiment, with the learning rate of one process."""
    shared = {"learning_rate": float(learning_rate), "weight_decay": settings.weight_decay or None}
    if settings.name == "sgd":
        return keras.optimizers.SGD(momentum=settings.momentum, **shared)
    if settings.name == "rmsprop":
        return keras.optimizers.RMSprop(momentum=settings.momentum, epsilon=settings.epsilon, **shared)
    # AdamW is Adam whose weights decay apart from the gradient, as they do in every optimizer of Keras 2.15; its own
    # class of that name Keras does not find again when Horovod hands the optimizer to its processes
    return keras.optimizers.Adam(epsilon=settings.epsilon, **shared)
