"""How smooth a loss curve is, as numbers."""

import numpy as np
import pandas as pd

# Points that the smoothed curve averages, and how far above it a point is a spike.
WINDOW, SPIKE = 15, 0.25


def smoothed(loss: np.ndarray) -> np.ndarray:
    """The running median of 15 points, which a single spike does not move; fewer at the ends."""
    return pd.Series(loss).rolling(WINDOW, center=True, min_periods=1).median().to_numpy()


def smoothness(loss: np.ndarray) -> dict[str, float]:
    """Spikes and rises of a curve.

    Args:
        loss: the training loss on the way, shape ``(points,)``.

    Returns:
        ``spikes``, points a quarter or more above the smoothed curve; ``largest_rise`` of the smoothed curve above the
        lowest it had been before; ``roughness``, the mean distance to the smoothed curve, as a share of it.
    """
    line = smoothed(loss)
    rises = line - np.minimum.accumulate(line)
    return {
        "spikes": int((loss > line * (1 + SPIKE)).sum()),
        "largest_rise": float(rises.max()),
        "roughness": float((np.abs(loss - line) / np.maximum(line, 1e-12)).mean()),
    }
