"""Why a training cannot start or go on, in one message; jobs print it without a traceback."""


class TrainingError(RuntimeError):
    """The cluster or the settings do not allow the training."""
