"""Runs on one test set, side by side."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from evaluation.metrics import mcnemar
from evaluation.runs import Run

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Disagreement:
    """Test rows that only one of two runs has right."""

    first: str
    second: str
    only_first: int
    only_second: int


def compare(runs: list[Run], disagreements: list[Disagreement]) -> dict[str, Any]:
    """What ``metrics.json`` of a comparison holds: ``runs``, ``pairs`` with McNemar's test, and ``classes``."""
    best = max(runs, key=lambda run: run.metrics["test"]["accuracy"])
    recalls = recall_table(runs)
    return {
        "best": best.name,
        "test_rows": best.metrics["rows"]["test"],
        "source": best.metrics["source"],
        "runs": {run.name: _row(run) for run in runs},
        "pairs": [_pair(disagreement) for disagreement in disagreements],
        "classes": recalls.to_dict(orient="index"),
    }


def recall_table(runs: list[Run]) -> pd.DataFrame:
    """Recall by class (rows) and run (columns), the classes in which the runs differ most first."""
    table = pd.DataFrame(
        {run.name: {name: row["recall"] for name, row in run.metrics["test"]["classes"].items()} for run in runs}
    )
    spread = table.max(axis=1) - table.min(axis=1)
    return table.loc[spread.sort_values(ascending=False, kind="stable").index]


def _row(run: Run) -> dict[str, Any]:
    metrics = run.metrics
    return {
        "model": metrics["model"],
        "accuracy": metrics["test"]["accuracy"],
        "accuracy_interval": metrics["test"]["accuracy_interval"],
        "macro_f1": metrics["test"]["macro"]["f1"],
        "seconds": metrics["seconds"],
        "train_images_per_second": metrics["train"]["images_per_second"],
        "predict_images_per_second": metrics["test"]["images_per_second"],
        "weights": metrics["weights"],
        "bytes": metrics["bytes"],
        "num_proc": metrics["num_proc"],
    }


def _pair(disagreement: Disagreement) -> dict[str, Any]:
    first, second = disagreement.only_first, disagreement.only_second
    p = mcnemar(first, second)
    better, worse = disagreement.first, disagreement.second
    if second > first:
        better, worse = worse, better
    if p < SIGNIFICANT:
        verdict = f"{better} is better than {worse}"
    else:
        verdict = f"no difference between {disagreement.first} and {disagreement.second} is shown"
    return {
        "first": disagreement.first,
        "second": disagreement.second,
        "only_first": first,
        "only_second": second,
        "p_value": p,
        "verdict": verdict,
    }
