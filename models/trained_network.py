"""What a training gives."""

from dataclasses import dataclass
from typing import Any

import keras
import pandas as pd

from models.progression import History, best_epoch
from models.settings import Augmentation, Training
from models.watches import Finding

Loss = dict[str, Any]


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with the weights of its best epoch.

    Args:
        model: takes ``uint8`` ``(batch, pixels)``, returns ``float32`` probabilities ``(batch, classes)``.
        history: a row an epoch: ``epoch`` from 1, ``loss``, ``accuracy``, ``precision``, ``recall``, each of them again
            as ``val_…``, all averaged over the ranks, ``learning_rate``, ``seconds`` and ``images_per_second``.
        loss_curve: the training loss on the way, ``epoch`` (a fraction, from 0) and ``loss``.
        best_epoch: the epoch of the lowest validation loss.
        losses: of processes, hosts or the driver, one entry each: ``what``, ``time``, ``after_epoch`` (the last one
            finished), ``seconds`` from its end to the first step after the loss, ``num_proc`` from then on.
        steps: when the first and the last step ended, or those made in one execution with it, in seconds since 1970.
        findings: of the watches, see :func:`models.watches.findings`.
        pruned: whether it was a trial that was stopped.
        profile: where the time of some steps went: :attr:`models.profile.Profile.found`, ``epoch`` and
            ``epoch_seconds``, by what they were spent on.
    """

    model: keras.Model
    history: pd.DataFrame
    loss_curve: pd.DataFrame
    best_epoch: int
    losses: list[Loss]
    steps: tuple[float, float]
    findings: list[Finding]
    pruned: bool = False
    profile: dict[str, Any] | None = None

    def summary(self, settings: Training) -> dict[str, Any]:
        """The figures of the training for ``metrics.json``: those of the kept epoch, and the speed over all."""
        kept = self.history.set_index("epoch").loc[self.best_epoch].drop(["seconds", "images_per_second"])
        return {
            # the harmonic mean: all pictures over all of the time
            "images_per_second": len(self.history) / (1 / self.history["images_per_second"]).sum(),
            "epochs": len(self.history),
            "best_epoch": self.best_epoch,
            "first_step": self.steps[0],
            "last_step": self.steps[1],
            "augmented": settings.augmentation != Augmentation(),
            **kept.to_dict(),
        }

    @classmethod
    def of(cls, rows: History, model: keras.Model, losses: list[Loss]) -> "TrainedNetwork":
        """That of a training with these epochs, as its last checkpoint has them; ``model`` is that of the best one."""
        history = pd.DataFrame(rows).drop(columns=["probe", "findings", "pruned", "profile"], errors="ignore")
        curves, steps = history.pop("curve"), history.pop("steps")
        points = [
            (epoch - 1 + (place + 1) / len(curve), loss)
            for epoch, curve in zip(history["epoch"], curves, strict=True)
            for place, loss in enumerate(curve)
        ]
        return cls(
            model,
            history,
            pd.DataFrame(points, columns=["epoch", "loss"]),
            best_epoch(rows),
            losses,
            (steps.iloc[0][0], steps.iloc[-1][1]),
            [finding for row in rows for finding in row.get("findings", [])],
            bool(rows[-1].get("pruned")),
            next((row["profile"] for row in rows if "profile" in row), None),
        )

    def followed_by(self, tuned: "TrainedNetwork") -> "TrainedNetwork":
        """Both in one history; the model is that of the better epoch."""
        before = len(self.history)
        history, curve = (
            pd.concat([first, second.assign(epoch=second["epoch"] + before)], ignore_index=True)
            for first, second in ((self.history, tuned.history), (self.loss_curve, tuned.loss_curve))
        )
        best = int(history["val_loss"].argmin()) + 1
        return TrainedNetwork(
            tuned.model if best > before else self.model,
            history,
            curve,
            best,
            self.losses + [loss | {"after_epoch": loss["after_epoch"] + before} for loss in tuned.losses],
            (self.steps[0], tuned.steps[1]),
            self.findings + [finding | {"epoch": finding["epoch"] + before} for finding in tuned.findings],
            profile=self.profile,
        )
