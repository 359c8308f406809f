"""What a network is compiled with: a Keras optimizer chosen by the experiment, the loss and the metrics."""

from typing import Any

import keras

from models.model_settings import Optimizer

# The default of keras.optimizers.AdamW.
ADAMW_DECAY = 0.004


def build_optimizer(settings: Optimizer, learning_rate: float) -> keras.optimizers.Optimizer:
    """Build the optimizer of an experiment, with the learning rate of one process."""
    decay = settings.weight_decay
    if settings.name == "adamw" and decay is None:
        decay = ADAMW_DECAY
    shared = {"learning_rate": float(learning_rate), "weight_decay": decay or None}
    if settings.name == "sgd":
        return keras.optimizers.SGD(momentum=settings.momentum, **shared)
    if settings.name == "rmsprop":
        return keras.optimizers.RMSprop(momentum=settings.momentum, epsilon=settings.epsilon, **shared)
    # AdamW is Adam with decoupled weight decay, which is how every optimizer of Keras 2.15 applies weight_decay. Keras
    # cannot look up its own class AdamW when Horovod deserializes the optimizer in its processes.
    return keras.optimizers.Adam(epsilon=settings.epsilon, **shared)


def compile_arguments(settings: Optimizer, learning_rate: float, label_smoothing: float) -> dict[str, Any]:
    """Build the optimizer, loss and metrics that a network is compiled with.

    Args:
        settings: optimizer and its parameters.
        learning_rate: learning rate of one process.
        label_smoothing: fraction of a label's weight that is spread over all classes.
    """
    return {
        "optimizer": build_optimizer(settings, learning_rate),
        "loss": keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing),
        "metrics": ["accuracy", keras.metrics.Precision(name="precision"), keras.metrics.Recall(name="recall")],
    }
