"""Studies of several trainings: their metrics, tables and reports."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.figures import (
    Picture,
    accuracy_intervals,
    learning_curve_figure,
    loss_curves,
    picture_grid,
    save_figures,
)
from evaluation.metrics import hardest_letters
from evaluation.report import write_study_report
from evaluation.runs import METRICS_FILE, write_json
from evaluation.smoothness import smoothness


@dataclass(frozen=True)
class Training:
    """One training of a study.

    Args:
        name: the name of the training, unique in the study.
        history: one row per epoch.
        best_epoch: the epoch whose weights were kept, counted from 1.
        loss_curve: the training loss within and across epochs, with columns ``epoch`` and ``loss``.
        test: the metrics of the test set from :func:`evaluation.metrics.summarize`, with ``loss``.
        about: settings of this training, such as ``learning_rate`` or ``rows``.
        hands: in how many of the ``searched`` test pictures a hand was ``found``; empty if they were not counted.
        mistakes: the test pictures with the most probable wrong letters, if they were collected.
    """

    name: str
    history: pd.DataFrame
    best_epoch: int
    loss_curve: pd.DataFrame
    test: dict[str, Any]
    about: dict[str, Any]
    hands: dict[str, int] = field(default_factory=dict)
    mistakes: list[Picture] = field(default_factory=list)


@dataclass(frozen=True)
class Study:
    """The network and the data that all trainings of a study have in common.

    Args:
        network: the name of the network.
        source: the name of the data in figures and reports.
        synthetic: whether the data are the synthetic sample.
    """

    network: str
    source: str
    synthetic: bool

    def write_optimizers(self, folder: Path, trainings: list[Training]) -> pd.DataFrame:
        """Write the comparison of optimizers: loss curves, their smoothness, and final losses. Return the table."""
        rows = [
            {
                "optimizer": training.name,
                "learning_rate": training.about["learning_rate"],
                "train_loss": float(training.history["loss"].iloc[training.best_epoch - 1]),
                "test_loss": training.test["loss"],
                "test_accuracy": training.test["accuracy"],
                "test_accuracy_interval": training.test["accuracy_interval"],
                **smoothness(training.loss_curve["loss"].to_numpy()),
            }
            for training in trainings
        ]
        for training in trainings:
            training.loss_curve.to_csv(folder / f"loss_curve_{training.name}.csv", index=False)
            training.history.to_csv(folder / f"history_{training.name}.csv", index=False)
        curves = {training.name: training.loss_curve for training in trainings}
        smoothest = min(rows, key=lambda row: row["roughness"])
        best = min(rows, key=lambda row: row["test_loss"])
        notes = [
            f"{smoothest['optimizer']} has the smoothest loss curve. {best['optimizer']} has the lowest test loss,"
            f" {best['test_loss']:.4f}. This ranking holds only for these learning rates and this network.",
            "A spike is a point more than 25 % above the smoothed curve. The largest rise is the largest increase of"
            " the smoothed curve above its previous minimum. Roughness is the mean distance to the smoothed curve, as"
            " a fraction of it. The losses in the table are from the epoch with the lowest validation loss.",
        ]
        table = pd.DataFrame(
            {
                "optimizer": row["optimizer"],
                "learning rate": f"{row['learning_rate']:g}",
                "training loss": f"{row['train_loss']:.4f}",
                "test loss": f"{row['test_loss']:.4f}",
                "test accuracy": f"{row['test_accuracy']:.4f}",
                "spikes": row["spikes"],
                "largest rise": f"{row['largest_rise']:.4f}",
                "roughness": f"{row['roughness']:.3f}",
            }
            for row in rows
        )
        lead = f"{self.network} was trained on {self.source} with each optimizer, starting from the same weights."
        save_figures({"loss_curves": loss_curves(curves)}.items(), folder / "figures", self.source)
        self._write(folder, "Comparison of optimizers", lead, {"optimizers": rows}, table, notes)
        return table

    def write_learning_curve(self, folder: Path, trainings: list[Training]) -> pd.DataFrame:
        """Write the accuracy by the number of training pictures. Return the table."""
        points = [
            {
                "fraction": float(training.name),
                "rows": training.about["rows"],
                "train": float(training.history["accuracy"].iloc[training.best_epoch - 1]),
                "validation": float(training.history["val_accuracy"].iloc[training.best_epoch - 1]),
                "test": training.test["accuracy"],
                "low": training.test["accuracy_interval"][0],
                "high": training.test["accuracy_interval"][1],
            }
            for training in trainings
        ]
        table = pd.DataFrame(
            {
                "training pictures": f"{point['rows']:,}",
                "training accuracy": f"{point['train']:.4f}",
                "validation": f"{point['validation']:.4f}",
                "test": f"{point['test']:.4f}",
                "95 % interval": f"{point['low']:.4f} to {point['high']:.4f}",
            }
            for point in points
        )
        previous, last = points[-2:]
        notes = [
            f"From {previous['rows']:,} to {last['rows']:,} training pictures, the test accuracy changed by"
            f" {last['test'] - previous['test']:+.4f}. If it is still rising, more pictures help. If it is not, and"
            " remains below the training accuracy, try another network or other pictures."
        ]
        lead = f"{self.network} was trained on increasing parts of {self.source}, for about the same number of steps."
        curve = pd.DataFrame(points)
        curve.to_csv(folder / "learning_curve.csv", index=False)
        save_figures({"learning_curve": learning_curve_figure(curve)}.items(), folder / "figures", self.source)
        self._write(folder, "Learning curve", lead, {"points": points}, table, notes)
        return table

    def write_left_out(self, folder: Path, by: str, trainings: list[Training]) -> pd.DataFrame:
        """Write the leave-one-out results by source or signer. Return the table."""
        tests = {training.name: training.test | {"hands": training.hands} for training in trainings}
        mean = sum(test["accuracy"] for test in tests.values()) / len(tests)
        table = pd.DataFrame(
            {
                f"{by} left out": training.name,
                "epochs": training.about["epochs"],
                "accuracy": f"{training.test['accuracy']:.4f}",
                "95 % interval": "{:.4f} to {:.4f}".format(*training.test["accuracy_interval"]),
                "macro F1": f"{training.test['macro']['f1']:.4f}",
                "loss": f"{training.test['loss']:.4f}",
                "hands found": f"{training.hands['found']:,} of {training.hands['searched']:,}",
                "most often missed": hardest_letters(training.test),
            }
            for training in trainings
        )
        notes = [
            f"The mean accuracy is {mean:.4f}. Only classes that also occur in the other {by}s are evaluated. The test"
            " set is not used. Each training takes about as many steps as a training on all pictures.",
            "The interval takes groups of pictures as independent, not single pictures: near-duplicates, or the frames"
            " of a letter if the source has a pattern for them.",
        ]
        lead = (
            f"{self.network} was trained once without each {by} of {self.source}, and evaluated on the training"
            f" pictures of that {by}."
        )
        title = f"Accuracy on the {by} left out, with 95 % interval"
        charts = {"accuracy": accuracy_intervals(tests, title)}
        for training in trainings:
            if training.mistakes:
                charts[f"mistakes_{training.name}"] = picture_grid(
                    training.mistakes, f"Mistakes in {training.name}", columns=8
                )
        save_figures(charts.items(), folder / "figures", self.source)
        content = {"by": by, "mean_accuracy": mean, "left_out": tests}
        self._write(folder, f"Leave-one-{by}-out cross-validation", lead, content, table, notes)
        return table

    def _write(
        self, folder: Path, title: str, lead: str, content: dict[str, Any], table: pd.DataFrame, notes: list[str]
    ) -> None:
        write_json(folder / METRICS_FILE, {"source": self.source} | content)
        write_study_report(folder / "report.html", title, lead, self.synthetic, table, notes, folder / "figures")
