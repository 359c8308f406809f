"""Several trainings that answer one question: what is written of them, as rows, as a table and in words."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.figures import accuracy_intervals, learning_curve_figure, loss_curves, save_figures
from evaluation.report import write_study_report
from evaluation.runs import METRICS_FILE, write_json
from evaluation.smoothness import smoothness


@dataclass(frozen=True)
class Training:
    """One of them.

    Args:
        name: told apart by it.
        history: a row an epoch.
        best_epoch: the kept one.
        loss_curve: the training loss on the way, ``epoch`` and ``loss``.
        test: from :func:`evaluation.metrics.summarise`, with ``loss``.
        about: what else is known, such as ``learning_rate`` or ``rows``.
    """

    name: str
    history: pd.DataFrame
    best_epoch: int
    loss_curve: pd.DataFrame
    test: dict[str, Any]
    about: dict[str, Any]


@dataclass(frozen=True)
class Study:
    """What their report says of the data.

    Args:
        network: which one was trained.
        source: the data, as figures and reports call it.
        synthetic: whether it is the synthetic sample.
    """

    network: str
    source: str
    synthetic: bool

    def write_optimizers(self, folder: Path, trainings: list[Training]) -> pd.DataFrame:
        """Optimizers on one network: their curves, how smooth each is, and the losses it ends with; the table."""
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
            f"The smoothest curve is {smoothest['optimizer']}'s. The lowest test loss is {best['optimizer']}'s,"
            f" {best['test_loss']:.4f}; the order says something of these learning rates, on this network.",
            "A spike is a point a quarter or more above the smoothed curve; the largest rise is the smoothed curve's"
            " above the lowest it had been before; roughness is the mean distance to it, as a share. The losses of the"
            " table are those of the epoch with the lowest validation loss.",
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
        lead = f"One network, {self.network}, trained from the same first weights with each, on {self.source}."
        save_figures({"loss_curves": loss_curves(curves)}.items(), folder / "figures", self.source)
        self._write(folder, "Optimizers compared", lead, {"optimizers": rows}, table, notes)
        return table

    def write_learning_curve(self, folder: Path, trainings: list[Training]) -> pd.DataFrame:
        """Accuracy by the number of training pictures; the table."""
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
        before, last = points[-2:]
        notes = [
            f"From {before['rows']:,} to {last['rows']:,} training pictures the test accuracy changed by"
            f" {last['test'] - before['test']:+.4f}. Where it still rises, more pictures help; where training and test"
            " stay apart while it does not, another network or other pictures do."
        ]
        lead = f"{self.network} trained on more and more of {self.source}, in about as many steps each time."
        curve = pd.DataFrame(points)
        curve.to_csv(folder / "learning_curve.csv", index=False)
        save_figures({"learning_curve": learning_curve_figure(curve)}.items(), folder / "figures", self.source)
        self._write(folder, "Learning curve", lead, {"points": points}, table, notes)
        return table

    def write_left_out(self, folder: Path, by: str, trainings: list[Training]) -> pd.DataFrame:
        """Sources or signers left out in turn; the table."""
        tests = {training.name: training.test for training in trainings}
        mean = sum(test["accuracy"] for test in tests.values()) / len(tests)
        table = pd.DataFrame(
            {
                f"{by} left out": training.name,
                "epochs": training.about["epochs"],
                "accuracy": f"{training.test['accuracy']:.4f}",
                "95 % interval": "{:.4f} to {:.4f}".format(*training.test["accuracy_interval"]),
                "macro F1": f"{training.test['macro']['f1']:.4f}",
                "loss": f"{training.test['loss']:.4f}",
            }
            for training in trainings
        )
        notes = [
            f"The mean accuracy is {mean:.4f}. Only classes that the others have are judged on; no test set was"
            " touched. Each training has about as many steps as one on all pictures."
        ]
        lead = (
            f"{self.network} trained on the other {by}s of {self.source}, and judged on the training pictures of the"
            " one it has never seen."
        )
        title = "Accuracy on what was left out, with 95 % interval"
        save_figures({"accuracy": accuracy_intervals(tests, title)}.items(), folder / "figures", self.source)
        content = {"by": by, "mean_accuracy": mean, "left_out": tests}
        self._write(folder, f"One {by} left out in turn", lead, content, table, notes)
        return table

    def _write(
        self, folder: Path, title: str, lead: str, content: dict[str, Any], table: pd.DataFrame, notes: list[str]
    ) -> None:
        write_json(folder / METRICS_FILE, {"source": self.source} | content)
        write_study_report(folder / "report.html", title, lead, self.synthetic, table, notes, folder / "figures")
