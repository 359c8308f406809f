"""Decisions based on the epochs so far: whether training has finished, and the learning rate on a plateau.

Both depend only on the history, so that a training resumed after a failure continues as if nothing had happened.
"""

import math
from collections.abc import Mapping
from typing import Any

from training.training_settings import Training

History = list[dict[str, Any]]


def has_finished(history: History, settings: Training) -> bool:
    """Return whether training has finished.

    That is the case if all epochs are done, if the validation loss has not fallen for ``early_stopping`` epochs, or if
    the training is a trial of a search and was ``pruned``.
    """
    if len(history) >= settings.epochs or (history and history[-1].get("pruned")):
        return True
    return (
        settings.early_stopping is not None and bool(history) and _epochs_since_best(history) >= settings.early_stopping
    )


def best_epoch(history: History) -> int:
    """Return the epoch with the lowest validation loss, counted from 1."""
    return 1 + min(range(len(history)), key=lambda i: history[i]["val_loss"])


def divergence(epoch: int, row: Mapping[str, float]) -> str | None:
    """Return why training cannot recover after an epoch, or None if it can.

    It can recover from an infinite validation loss.

    Args:
        epoch: epoch that has just ended, counted from 1.
        row: metrics of the epoch, with ``loss`` and ``val_loss``.
    """
    if not math.isfinite(row["loss"]):
        return f"the loss of epoch {epoch} is {row['loss']}"
    if math.isnan(row["val_loss"]):  # with NaN there is no best epoch
        return f"the validation loss of epoch {epoch} is nan"
    return None


def plateau_factor(history: History, patience: int) -> float:
    """Return the factor of the learning rate, halved after each ``patience`` successive epochs without a lower loss."""
    factor, lowest_loss, epochs_waited = 1.0, float("inf"), 0
    for epoch in history:
        if epoch["val_loss"] < lowest_loss:
            lowest_loss, epochs_waited = epoch["val_loss"], 0
            continue
        epochs_waited += 1
        if epochs_waited == patience:
            factor, epochs_waited = factor / 2, 0
    return factor


def _epochs_since_best(history: History) -> int:
    return len(history) - best_epoch(history)
