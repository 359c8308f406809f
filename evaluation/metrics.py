"""Metrics from a confusion matrix, with confidence intervals, and a significance test for two models."""

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm

CONFIDENCE = 0.95
_NUM_HARDEST = 4


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a fraction (Wilson, 1927). It stays within 0..1 and remains accurate near 1."""
    interval = binomtest(correct, total).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def grouped_interval(accuracy: float, effective_size: float) -> tuple[float, float]:
    """The 95 % interval of an accuracy on pictures that come in groups, such as the frames of a video.

    It is Wilson's interval for the number of independent pictures that would be as informative (Korn and Graubard,
    1998).

    Args:
        accuracy: the accuracy on all pictures.
        effective_size: from :func:`models.prediction.effective_size`.
    """
    z = float(norm.ppf((1 + CONFIDENCE) / 2))
    center = accuracy + z**2 / (2 * effective_size)
    half = z * math.sqrt(accuracy * (1 - accuracy) / effective_size + z**2 / (4 * effective_size**2))
    scale = 1 + z**2 / effective_size
    return max(0.0, (center - half) / scale), min(1.0, (center + half) / scale)


def class_table(confusion: np.ndarray, class_names: list[str]) -> pd.DataFrame:
    """Compute the metrics of each class.

    Args:
        confusion: ``int``, shape ``(classes, classes)``; rows are the true classes, columns the predicted ones.
        class_names: the names of the classes, in the order of the matrix.

    Returns:
        A table indexed by class: ``precision``, ``recall``, ``f1``, ``support`` (the number of test rows),
        ``false_positive_rate`` (the fraction of other classes' rows that are predicted as this class),
        ``false_negative_rate`` (the fraction of this class's rows that are missed). A fraction is 0 where its
        denominator is 0.
    """
    support = confusion.sum(axis=1)
    predicted = confusion.sum(axis=0)
    true_positives = confusion.diagonal()
    precision, recall = _fraction(true_positives, predicted), _fraction(true_positives, support)
    return pd.DataFrame(
        {
            "precision": precision,
            "recall": recall,
            "f1": _fraction(2 * precision * recall, precision + recall),
            "support": support,
            "false_positive_rate": _fraction(predicted - true_positives, confusion.sum() - support),
            "false_negative_rate": _fraction(support - true_positives, support),
        },
        index=pd.Index(class_names, name="class"),
    )


def add_confusions(confusions: dict[str, np.ndarray], class_names: list[str]) -> np.ndarray:
    """The sum of the confusion matrices of all sources; all zeros if there are none."""
    return sum(confusions.values(), np.zeros((len(class_names), len(class_names)), dtype=np.int64))


def summarize(confusion: np.ndarray, class_names: list[str]) -> dict[str, Any]:
    """Accuracy with its interval, macro and weighted means, and the metrics of each class, as plain numbers for JSON.

    Classes without test rows are excluded from the macro and weighted means.
    """
    table = class_table(confusion, class_names)
    present = table[table["support"] > 0]
    names = ["precision", "recall", "f1"]
    correct, total = int(confusion.trace()), int(confusion.sum())
    return {
        "accuracy": correct / total,
        "accuracy_interval": list(wilson_interval(correct, total)),
        "correct": correct,
        "macro": {name: float(present[name].mean()) for name in names},
        "weighted": {name: float(np.average(present[name], weights=present["support"])) for name in names},
        "classes": {str(name): row for name, row in table.to_dict(orient="index").items()},
    }


def confused_pairs(confusion: np.ndarray, class_names: list[str]) -> pd.DataFrame:
    """Mistakes by pair, most frequent first: ``label``, ``prediction``, ``count``, ``fraction`` of the label's rows."""
    wrong = confusion - np.diag(confusion.diagonal())
    rows, columns = np.nonzero(wrong)
    pairs = pd.DataFrame(
        {
            "label": [class_names[i] for i in rows],
            "prediction": [class_names[i] for i in columns],
            "count": wrong[rows, columns],
            "fraction": wrong[rows, columns] / confusion.sum(axis=1)[rows],
        }
    )
    return pairs.sort_values(["count", "label", "prediction"], ascending=[False, True, True], ignore_index=True)


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p-value that two models, evaluated on the same rows, are equally good (McNemar, 1947).

    Args:
        only_first: the number of rows that only the first model classifies correctly.
        only_second: the number of rows that only the second model classifies correctly.
    """
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


def hardest_letters(metrics: dict[str, Any]) -> str:
    """The classes with the lowest recall below 1, each with its recall, for a table.

    Args:
        metrics: from :func:`summarize`.
    """
    recalls = {name: row["recall"] for name, row in metrics["classes"].items() if row["support"]}
    order = sorted((recall, name) for name, recall in recalls.items() if recall < 1)
    return ", ".join(f"{name} {recall:.0%}" for recall, name in order[:_NUM_HARDEST]) or "–"


def _fraction(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.zeros(len(denominator)), where=denominator != 0)
