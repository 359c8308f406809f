"""What a network is compiled with: Keras's optimizers, as an experiment names them, loss and metrics."""

import keras

from models.settings import Optimizer, Training

# Keras's default.
ADAMW_DECAY = 0.004


def build_optimizer(settings: Optimizer, learning_rate: float) -> keras.optimizers.Optimizer:
    """The optimizer of an experiment, with the learning rate of one process."""
    decay = settings.weight_decay
    if settings.name == "adamw" and decay is None:
        decay = ADAMW_DECAY
    shared = {"learning_rate": float(learning_rate), "weight_decay": decay or None}
    if settings.name == "sgd":
        return keras.optimizers.SGD(momentum=settings.momentum, **shared)
    if settings.name == "rmsprop":
        return keras.optimizers.RMSprop(momentum=settings.momentum, epsilon=settings.epsilon, **shared)
    # AdamW is Adam whose weights decay apart from the gradient, as they do in every optimizer of Keras 2.15; its own
    # class of that name Keras does not find again when Horovod hands the optimizer to its processes
    return keras.optimizers.Adam(epsilon=settings.epsilon, **shared)


def build_loss(settings: Training) -> keras.losses.Loss:
    return keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing)


def build_metrics() -> list[str | keras.metrics.Metric]:
    """Those of every epoch, beside the loss."""
    return ["accuracy", keras.metrics.Precision(name="precision"), keras.metrics.Recall(name="recall")]
