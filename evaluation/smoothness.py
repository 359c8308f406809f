"""Measures of how smooth a loss curve is."""

import numpy as np
import pandas as pd

# The number of points in the window of the running median, and the fraction above it from which a point is a spike.
WINDOW, SPIKE = 15, 0.25


def smoothed(loss: np.ndarray) -> np.ndarray:
    """The running median of 15 points, or fewer at the ends. A single spike does not move it."""
    return pd.Series(loss).rolling(WINDOW, center=True, min_periods=1).median().to_numpy()


def smoothness(loss: np.ndarray) -> dict[str, float]:
    """Measure the spikes, rises and roughness of a loss curve.

    Args:
        loss: the training loss at successive points, shape ``(points,)``.

    Returns:
        ``spikes``, the number of points more than a quarter above the smoothed curve; ``largest_rise``, the largest
        rise of the smoothed curve above its previous minimum; ``roughness``, the mean distance to the smoothed curve,
        as a fraction of it.
    """
    median = smoothed(loss)
    rises = median - np.minimum.accumulate(median)
    return {
        "spikes": int((loss > median * (1 + SPIKE)).sum()),
        "largest_rise": float(rises.max()),
        "roughness": float((np.abs(loss - median) / np.maximum(median, 1e-12)).mean()),
    }
