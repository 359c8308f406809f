"""Where training and validation part, and by how much."""

from typing import Any

import pandas as pd

# A validation loss so far above its lowest, or accuracies so far apart, are more than an epoch's ups and downs.
LOSS_RISE, ACCURACY_GAP = 0.1, 0.05


def overfitting(history: pd.DataFrame, best_epoch: int, test_accuracy: float) -> dict[str, Any]:
    """What the curves say of a network that knows its training pictures by heart.

    Args:
        history: a row an epoch: ``epoch``, ``loss``, ``val_loss``, ``accuracy``, ``val_accuracy``.
        best_epoch: of the lowest validation loss.
        test_accuracy: a share 0..1.

    Returns:
        ``parted``, whether the validation loss rose by a tenth or more after ``best_epoch`` while the training loss
        went on falling; ``loss_rise``, by which share; ``validation_gap`` and ``test_gap``, training accuracy minus the
        other at the kept epoch; ``found``, whether any of these is large; ``elsewhere``, validation accuracy minus
        test accuracy, and ``moved``, whether it is: what was learned holds for validation pictures, and less so
        for the test set's.
    """
    epochs = history.set_index("epoch")
    best, last = epochs.loc[best_epoch], epochs.iloc[-1]
    rise = float(last["val_loss"] / max(best["val_loss"], 1e-12) - 1)
    parted = rise >= LOSS_RISE and bool(last["loss"] < best["loss"])
    validation_gap = float(best["accuracy"] - best["val_accuracy"])
    test_gap = float(best["accuracy"] - test_accuracy)
    elsewhere = float(best["val_accuracy"] - test_accuracy)
    return {
        "found": parted or max(validation_gap, test_gap) >= ACCURACY_GAP,
        "parted": parted,
        "best_epoch": best_epoch,
        "loss_rise": rise,
        "validation_gap": validation_gap,
        "test_gap": test_gap,
        "elsewhere": elsewhere,
        "moved": elsewhere >= ACCURACY_GAP,
    }
