"""Figures from a confusion matrix, with their uncertainty, and the test of one model against another."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

CONFIDENCE = 0.95


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927), which stays within 0..1 and is honest near 1."""
    interval = binomtest(correct, total).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def class_table(confusion: np.ndarray, classes: list[str]) -> pd.DataFrame:
    """Each class's figures.

    Args:
        confusion: ``int``, shape ``(classes, classes)``; rows are the true classes, columns the predicted ones.
        classes: their names.

    Returns:
        Indexed by class: ``precision``, ``recall``, ``f1``, ``support`` (test rows), ``false_positive_rate`` (of the
        other classes' rows, those taken for this one), ``false_negative_rate`` (of this class's rows, those missed).
        A share of nothing is 0.
    """
    support = confusion.sum(axis=1)
    predicted = confusion.sum(axis=0)
    hits = confusion.diagonal()
    precision, recall = _share(hits, predicted), _share(hits, support)
    return pd.DataFrame(
        {
            "precision": precision,
            "recall": recall,
            "f1": _share(2 * precision * recall, precision + recall),
            "support": support,
            "false_positive_rate": _share(predicted - hits, confusion.sum() - support),
            "false_negative_rate": _share(support - hits, support),
        },
        index=pd.Index(classes, name="class"),
    )


def add_confusions(confusions: dict[str, np.ndarray], classes: list[str]) -> np.ndarray:
    """One matrix of those of all sources; all zeros where there is none."""
    return sum(confusions.values(), np.zeros((len(classes), len(classes)), dtype=np.int64))


def summarise(confusion: np.ndarray, classes: list[str]) -> dict[str, Any]:
    """Accuracy with its interval, macro and weighted means, and each class's figures, as plain numbers for JSON.

    Classes without a test row count neither in the macro nor in the weighted means.
    """
    table = class_table(confusion, classes)
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


def confused_pairs(confusion: np.ndarray, classes: list[str]) -> pd.DataFrame:
    """The mistakes by pair, most frequent first: ``label``, ``prediction``, ``count`` and ``share`` of the label."""
    wrong = confusion - np.diag(confusion.diagonal())
    rows, columns = np.nonzero(wrong)
    pairs = pd.DataFrame(
        {
            "label": [classes[i] for i in rows],
            "prediction": [classes[i] for i in columns],
            "count": wrong[rows, columns],
            "share": wrong[rows, columns] / confusion.sum(axis=1)[rows],
        }
    )
    return pairs.sort_values(["count", "label", "prediction"], ascending=[False, True, True], ignore_index=True)


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p-value that two models, judged on the same rows, are equally good (McNemar, 1947).

    Args:
        only_first: rows that the first model alone has right.
        only_second: rows that the second model alone has right.
    """
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole != 0)
