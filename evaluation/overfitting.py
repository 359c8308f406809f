"""Detection of overfitting from the training history and the test accuracy."""

from collections.abc import Sequence
from statistics import median
from typing import Any

import pandas as pd

# Rises of the validation loss, relative and absolute, and gaps between accuracies below these are normal variation
# between epochs.
LOSS_RISE, ABSOLUTE_LOSS_RISE, ACCURACY_GAP = 0.1, 0.05, 0.05
# The validation loss after its lowest is the median of this many epochs: one noisy epoch does not count.
EPOCHS = 3


def diverges(losses: Sequence[float], val_losses: Sequence[float]) -> bool:
    """Whether the validation loss rises while the training loss keeps falling, one value of each per epoch.

    The diagnostics of a running training and the report apply this one rule.
    """
    best = min(range(len(val_losses)), key=val_losses.__getitem__)
    if len(val_losses) - 1 - best < EPOCHS or losses[-1] >= losses[best]:
        return False
    rise = median(val_losses[-EPOCHS:]) - val_losses[best]
    return rise >= max(LOSS_RISE * val_losses[best], ABSOLUTE_LOSS_RISE)


def overfitting(history: pd.DataFrame, best_epoch: int, test_accuracy: float) -> dict[str, Any]:
    """Check whether the network has memorized its training pictures.

    Args:
        history: one row per epoch: ``epoch``, ``loss``, ``val_loss``, ``accuracy``, ``val_accuracy``.
        best_epoch: the epoch with the lowest validation loss.
        test_accuracy: a fraction 0..1.

    Returns:
        ``diverged``, see :func:`diverges`; ``loss_rise``, the rise of the validation loss from the best epoch to the
        median of the last three, as a fraction; ``validation_gap`` and ``test_gap``, training accuracy minus validation
        or test accuracy at the best epoch; ``overfits``, whether the network diverged or one of these gaps is large;
        ``validation_test_gap``, validation accuracy minus test accuracy; ``drifted``, whether that gap is large,
        so that the network generalizes to validation pictures but less to test pictures.
    """
    best = history.set_index("epoch").loc[best_epoch]
    loss_rise = float(median(history["val_loss"].tail(EPOCHS)) / max(best["val_loss"], 1e-12) - 1)
    diverged = diverges(history["loss"].tolist(), history["val_loss"].tolist())
    validation_gap = float(best["accuracy"] - best["val_accuracy"])
    test_gap = float(best["accuracy"] - test_accuracy)
    validation_test_gap = float(best["val_accuracy"] - test_accuracy)
    return {
        "overfits": diverged or max(validation_gap, test_gap) >= ACCURACY_GAP,
        "diverged": diverged,
        "best_epoch": best_epoch,
        "loss_rise": loss_rise,
        "validation_gap": validation_gap,
        "test_gap": test_gap,
        "validation_test_gap": validation_test_gap,
        "drifted": validation_test_gap >= ACCURACY_GAP,
    }
