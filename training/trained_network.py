"""The result of a training."""

from dataclasses import dataclass
from typing import Any

import keras
import pandas as pd

from training.diagnostics.checks import Finding
from training.progression import History, best_epoch
from training.training_settings import Augmentation, Training

Failure = dict[str, Any]


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with the weights of its best epoch.

    Args:
        model: the model. It takes ``uint8`` ``(batch, pixels)`` and returns ``float32`` probabilities
            ``(batch, classes)``.
        history: one row per epoch: ``epoch`` from 1; ``loss``, ``accuracy``, ``precision``, ``recall``, and with
            the prefix ``val_`` those of validation, averaged over the ranks; ``learning_rate``, ``seconds`` and
            ``images_per_second``.
        loss_curve: the training loss within the epochs: ``epoch`` (a fraction, from 0) and ``loss``.
        best_epoch: the epoch with the lowest validation loss.
        failures: one entry per failure of a process, a host or the driver: ``lost``, ``time``, ``after_epoch`` (the
            last finished epoch), ``seconds`` from the end of that epoch to the start of the next attempt's training,
            and ``num_proc``, the number of processes after the failure.
        steps: the times when the executions of the first and the last step ended, in seconds since 1970.
        findings: the findings of the diagnostics, see :func:`training.diagnostics.checks.findings`.
        pruned: whether the training was a trial that was stopped early.
        profile: how the time of some recorded steps was spent: :attr:`training.diagnostics.profiler.Profile.result`,
            ``epoch``, and ``epoch_seconds`` by activity.
    """

    model: keras.Model
    history: pd.DataFrame
    loss_curve: pd.DataFrame
    best_epoch: int
    failures: list[Failure]
    steps: tuple[float, float]
    findings: list[Finding]
    pruned: bool = False
    profile: dict[str, Any] | None = None

    def summary(self, settings: Training) -> dict[str, Any]:
        """The training metrics for ``metrics.json``: those of the best epoch, and the speed over all epochs."""
        best_row = self.history.set_index("epoch").loc[self.best_epoch].drop(["seconds", "images_per_second"])
        return {
            # The harmonic mean is the number of all pictures divided by the total time.
            "images_per_second": len(self.history) / (1 / self.history["images_per_second"]).sum(),
            "epochs": len(self.history),
            "best_epoch": self.best_epoch,
            "first_step": self.steps[0],
            "last_step": self.steps[1],
            "augmented": settings.augmentation != Augmentation(),
            **best_row.to_dict(),
        }

    @classmethod
    def of(cls, rows: History, model: keras.Model, failures: list[Failure]) -> "TrainedNetwork":
        """Create the result from the history in the last checkpoint.

        Args:
            rows: one row per epoch.
            model: the model with the weights of the best epoch.
            failures: the failures during the training.
        """
        history = pd.DataFrame(rows).drop(columns=["probe", "findings", "pruned", "profile"], errors="ignore")
        curves, steps = history.pop("curve"), history.pop("steps")
        points = [
            (epoch - 1 + (index + 1) / len(curve), loss)
            for epoch, curve in zip(history["epoch"], curves, strict=True)
            for index, loss in enumerate(curve)
        ]
        return cls(
            model,
            history,
            pd.DataFrame(points, columns=["epoch", "loss"]),
            best_epoch(rows),
            failures,
            (steps.iloc[0][0], steps.iloc[-1][1]),
            [finding for row in rows for finding in row.get("findings", [])],
            bool(rows[-1].get("pruned")),
            next((row["profile"] for row in rows if "profile" in row), None),
        )

    def followed_by(self, tuned: "TrainedNetwork") -> "TrainedNetwork":
        """Combine this training and its fine-tuning in one history. The model is that of the best epoch of both."""
        previous_epochs = len(self.history)
        history, curve = (
            pd.concat([first, second.assign(epoch=second["epoch"] + previous_epochs)], ignore_index=True)
            for first, second in ((self.history, tuned.history), (self.loss_curve, tuned.loss_curve))
        )
        best = int(history["val_loss"].argmin()) + 1
        return TrainedNetwork(
            tuned.model if best > previous_epochs else self.model,
            history,
            curve,
            best,
            self.failures
            + [failure | {"after_epoch": failure["after_epoch"] + previous_epochs} for failure in tuned.failures],
            (self.steps[0], tuned.steps[1]),
            self.findings + [finding | {"epoch": finding["epoch"] + previous_epochs} for finding in tuned.findings],
            profile=self.profile,
        )
