"""The report on a finished run that was evaluated on several sets of labeled pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.figures import Picture, accuracy_intervals, picture_grid, save_figures
from evaluation.metrics import hardest_letters
from evaluation.report import write_study_report
from evaluation.runs import METRICS_FILE, write_json


@dataclass(frozen=True)
class Evaluated:
    """A set of labeled pictures.

    Args:
        metrics: of :attr:`experiments.answering.Answers.metrics`.
        mistakes: the pictures with the most probable wrong letters.
    """

    metrics: dict[str, Any]
    mistakes: list[Picture]


def write_evaluations(folder: Path, run: str, evaluated: dict[str, Evaluated]) -> pd.DataFrame:
    """Write ``metrics.json``, the charts and the report. Return the table.

    Args:
        folder: an existing folder.
        run: the name of the run.
        evaluated: the sets, by name.
    """
    metrics = {name: one.metrics for name, one in evaluated.items()}
    table = pd.DataFrame(
        {
            "pictures": name,
            "labeled": f"{one['labeled']:,}",
            "rejected": f"{one['rejected']:,}",
            "hands found": f"{one['hands']['found']:,} of {one['hands']['searched']:,}",
            "accuracy": f"{one['accuracy']:.4f}",
            "95 % interval": "{:.4f} to {:.4f}".format(*one["accuracy_interval"]),
            "macro F1": f"{one['macro']['f1']:.4f}",
            "most often missed": hardest_letters(one),
        }
        for name, one in metrics.items()
    )
    notes = [
        "A letter that is often missed has the fraction of its pictures that were recognized. The interval takes the"
        " pictures as independent. If they are frames of a few videos, it is wider in truth.",
    ]
    source = " and ".join(evaluated)
    charts = {"accuracy": accuracy_intervals(metrics, f"Accuracy of {run} with 95 % interval")}
    for name, one in evaluated.items():
        if one.mistakes:
            charts[f"mistakes_{name}"] = picture_grid(one.mistakes, f"Mistakes in {name}", columns=8)
    save_figures(charts.items(), folder / "figures", source)
    write_json(folder / METRICS_FILE, {"run": run, "source": source, "sets": metrics})
    lead = f"{run} was evaluated on {source}. Nothing was trained."
    write_study_report(folder / "report.html", f"Evaluation of {run}", lead, False, table, notes, folder / "figures")
    return table
