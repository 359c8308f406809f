"""Comparison of runs on the same test set."""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from evaluation.metrics import mcnemar
from evaluation.runs import Run

SIGNIFICANCE_LEVEL = 0.05


@dataclass(frozen=True)
class Disagreement:
    """The numbers of test rows that exactly one of two runs classifies correctly."""

    first: str
    second: str
    only_first: int
    only_second: int


def pairs_to_test(models: dict[str, list[Run]]) -> list[tuple[Run, Run]]:
    """The pairs of runs whose difference is tested: those of different models with the same seed."""
    return [pair for first, second in combinations(models.values(), 2) for pair in zip(first, second, strict=True)]


def compare(models: dict[str, list[Run]], disagreements: list[Disagreement]) -> dict[str, Any]:
    """The content of a comparison's ``metrics.json``.

    It has ``runs``, ``pairs`` (McNemar's test), ``classes``, and ``seeds``, the accuracy of each model over its runs,
    which is empty if each has only one.

    Args:
        models: the runs of each model, one for each seed, in the same order.
        disagreements: the disagreement of each pair of runs that is tested.
    """
    runs = [run for runs in models.values() for run in runs]
    best = max(runs, key=lambda run: run.metrics["test"]["accuracy"])
    recalls = recall_table(runs)
    return {
        "best": best.name,
        "test_rows": best.metrics["rows"]["test"],
        "source": best.metrics["source"],
        "runs": {run.name: _run_summary(run) for run in runs},
        "seeds": {name: _seeds_summary(runs) for name, runs in models.items() if len(runs) > 1},
        "pairs": [_pair_result(disagreement) for disagreement in disagreements],
        "classes": recalls.to_dict(orient="index"),
    }


def recall_table(runs: list[Run]) -> pd.DataFrame:
    """Recall by class (rows) and run (columns). The classes in which the runs differ most come first."""
    table = pd.DataFrame(
        {run.name: {name: row["recall"] for name, row in run.metrics["test"]["classes"].items()} for run in runs}
    )
    spread = table.max(axis=1) - table.min(axis=1)
    return table.loc[spread.sort_values(ascending=False, kind="stable").index]


def _run_summary(run: Run) -> dict[str, Any]:
    metrics = run.metrics
    return {
        "model": metrics["model"],
        "accuracy": metrics["test"]["accuracy"],
        "accuracy_interval": metrics["test"]["accuracy_interval"],
        "macro_f1": metrics["test"]["macro"]["f1"],
        "seconds": metrics["seconds"],
        "train_images_per_second": metrics["train"]["images_per_second"],
        "predict_images_per_second": metrics["test"]["images_per_second"],
        "parameters": metrics["parameters"],
        "bytes": metrics["bytes"],
        "num_proc": metrics["num_proc"],
    }


def _seeds_summary(runs: list[Run]) -> dict[str, Any]:
    """The mean and the range of the test accuracy of trainings that differ in their seed."""
    accuracies = [run.metrics["test"]["accuracy"] for run in runs]
    return {
        "trainings": len(runs),
        "mean_accuracy": float(np.mean(accuracies)),
        "min_accuracy": min(accuracies),
        "max_accuracy": max(accuracies),
    }


def _pair_result(disagreement: Disagreement) -> dict[str, Any]:
    only_first, only_second = disagreement.only_first, disagreement.only_second
    p_value = mcnemar(only_first, only_second)
    better, worse = disagreement.first, disagreement.second
    if only_second > only_first:
        better, worse = worse, better
    if p_value < SIGNIFICANCE_LEVEL:
        verdict = f"{better} is better than {worse}"
    else:
        verdict = f"no significant difference between {disagreement.first} and {disagreement.second}"
    return {
        "first": disagreement.first,
        "second": disagreement.second,
        "only_first": only_first,
        "only_second": only_second,
        "p_value": p_value,
        "verdict": verdict,
    }
