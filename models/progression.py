"""What follows from the epochs so far: whether a training has finished, and its learning rate on a plateau.

Both are read off the history alone, so that a training that goes on after a loss decides as if nothing had happened.
"""

from typing import Any

from models.settings import Training

History = list[dict[str, Any]]


def has_finished(history: History, settings: Training) -> bool:
    """Whether all epochs are done, the validation loss has not fallen for ``early_stopping`` of them, or the training
    was ``pruned``, as a search's trial may be."""
    if len(history) >= settings.epochs or (history and history[-1].get("pruned")):
        return True
    return settings.early_stopping is not None and bool(history) and _stale(history) >= settings.early_stopping


def best_epoch(history: History) -> int:
    """The epoch of the lowest validation loss."""
    return 1 + min(range(len(history)), key=lambda i: history[i]["val_loss"])


def plateau_factor(history: History, patience: int) -> float:
    """What the learning rate is multiplied by: a half for every ``patience`` epochs in a row without a lower loss."""
    factor, lowest, waited = 1.0, float("inf"), 0
    for epoch in history:
        if epoch["val_loss"] < lowest:
            lowest, waited = epoch["val_loss"], 0
            continue
        waited += 1
        if waited == patience:
            factor, waited = factor / 2, 0
    return factor


def _stale(history: History) -> int:
    return len(history) - best_epoch(history)
