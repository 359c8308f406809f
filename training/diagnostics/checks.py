"""Checks of a training after every epoch. Each finding is a sentence that names the setting to change."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evaluation.overfitting import diverges

# Thresholds relative to guessing, so that they hold for any number of classes. The default experiments stay three
# times and more away from each of them.
_ABOVE_GUESSING = 1.5
_DEAD = 0.95
_EXPLODING, _VANISHING = 10.0, 1e-4
_UNCHANGED = 0.02
# A network that learns does better than guessing after this many epochs.
_EPOCHS = 3
# Consecutive probes. A healthy network with normalized layers may miss a class in the first two epochs, while the steps
# are long and the running statistics lag behind.
_PROBES = 3

History = list[dict[str, Any]]
Finding = dict[str, Any]


def findings(history: History, class_names: list[str], rate: str = "--training.learning-rate") -> list[Finding]:
    """Check the last epoch: what is wrong now and was not before, and what is no longer wrong.

    Args:
        history: One row per epoch: ``epoch``, ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``, ``curve`` (the
            training loss during the epoch), ``probe`` where the network was probed, see :meth:`Probe.measure`, and
            ``findings``, what this function returned for the epochs before the last.
        class_names: The class names, in the order of the network's outputs.
        rate: The option that sets the learning rate.

    Returns:
        One entry per finding: ``check``, its name, ``epoch``, ``sentence``, and ``resolved``, whether the finding is
        that an earlier one no longer holds.
    """
    active = active_findings([finding for row in history for finding in row.get("findings", [])])
    epoch = history[-1]["epoch"]
    progress, new = _Progress(history, class_names, rate), []
    for name, check in _CHECKS.items():
        sentence = check(progress)
        if name in active and sentence is None:
            del active[name]
            new.append({"check": name, "epoch": epoch, "sentence": "this no longer holds", "resolved": True})
        # a learning rate that does not fit, or dead units, explain other findings
        elif name not in active and sentence and not (name in _EXPLAINED and active.keys() & _EXPLAINING):
            active[name] = {"check": name, "epoch": epoch, "sentence": sentence, "resolved": False}
            new.append(active[name])
    return new


def active_findings(all_findings: list[Finding]) -> dict[str, Finding]:
    """The findings that still hold after all of these, by the names of their checks."""
    active: dict[str, Finding] = {}
    for finding in all_findings:
        if finding["resolved"]:
            active.pop(finding["check"], None)
        else:
            active[finding["check"]] = finding
    return active


@dataclass(frozen=True)
class _Progress:
    """What a check looks at: the arguments of :func:`findings`."""

    history: History
    class_names: list[str]
    rate: str

    @property
    def last_probe(self) -> dict[str, Any]:
        return next((row["probe"] for row in reversed(self.history) if "probe" in row), {})


def _rate_too_large(progress: _Progress) -> str | None:
    curve, guessing = progress.history[-1]["curve"], math.log(len(progress.class_names))
    highest = max(curve[len(curve) // 2 :])
    if highest <= _ABOVE_GUESSING * guessing:
        return None
    return (
        f"the loss is as high as {highest:.3g}, that of guessing is {guessing:.2f}: the steps are too long,"
        f" lower {progress.rate}"
    )


def _dead_units(progress: _Progress) -> str | None:
    dead = {layer: fraction for layer, fraction in progress.last_probe.get("dead", {}).items() if fraction >= _DEAD}
    if not dead:
        return None
    layers = ", ".join(f"{fraction:.0%} of {layer}" for layer, fraction in dead.items())
    return (
        f"ReLU units that output 0 for every picture no longer learn: {layers}; lower {progress.rate},"
        " or choose a --network.name with normalized layers, such as handshape"
    )


def _exploding_gradients(progress: _Progress) -> str | None:
    gradients = progress.last_probe.get("gradients", {})
    layer = max(gradients, key=gradients.__getitem__, default=None)
    if layer is None or gradients[layer] <= _EXPLODING:
        return None
    return f"the gradient of {layer} has grown to {gradients[layer]:.3g} per weight: lower {progress.rate}"


def _vanishing_gradients(progress: _Progress) -> str | None:
    gradients = progress.last_probe.get("gradients", {})
    first, last = next(iter(gradients), ""), next(reversed(gradients), "")
    if not gradients or gradients[first] >= _VANISHING * gradients[last]:
        return None
    return (
        f"the gradient of the first layer, {first}, is {gradients[first]:.1g} per weight, that of the last, {last},"
        f" {gradients[last]:.1g}: choose a --network.name with fewer or normalized layers, such as handshape"
    )


def _rate_too_small(progress: _Progress) -> str | None:
    row, change = progress.history[-1], progress.last_probe.get("weight_change", math.inf)
    if len(progress.history) < _EPOCHS or row["accuracy"] >= 0.5 or change >= _UNCHANGED:
        return None
    return (
        f"after {row['epoch']} epochs the loss is {row['loss']:.3f}, from {progress.history[0]['loss']:.3f}, and the"
        f" weights have changed by {change:.2%} of their norm: the steps are too short, raise {progress.rate}"
    )


def _labels_shuffled(progress: _Progress) -> str | None:
    row, count = progress.history[-1], len(progress.class_names)
    if len(progress.history) < _EPOCHS or max(row["accuracy"], row["val_accuracy"]) >= 2 / count:
        return None
    return (
        f"after {row['epoch']} epochs the accuracy is {row['accuracy']:.3f}, that of guessing among {count} classes: do"
        f" the labels belong to the pictures of --data? If they do, try another {progress.rate}"
    )


def _never_predicted(progress: _Progress) -> str | None:
    probes = [set(row["probe"]["never_predicted"]) for row in progress.history if "probe" in row][-_PROBES:]
    if len(probes) < _PROBES or progress.history[-1]["accuracy"] < 1 - 3 / len(progress.class_names):
        return None
    missed = [progress.class_names[index] for index in sorted(set.intersection(*probes))]
    if not missed:
        return None
    return (
        f"{', '.join(missed)} {'is' if len(missed) == 1 else 'are'} never predicted, not for training pictures of"
        " that class either: are there too few of them, or do they have another class's label? With several sources,"
        " --training.balance true helps"
    )


def _overfitting(progress: _Progress) -> str | None:
    losses, val_losses = ([row[name] for row in progress.history] for name in ("loss", "val_loss"))
    if not diverges(losses, val_losses):
        return None
    best, row = min(progress.history, key=lambda row: row["val_loss"]), progress.history[-1]
    return (
        f"since epoch {best['epoch']} the validation loss has risen from {best['val_loss']:.3f} to"
        f" {row['val_loss']:.3f} while the training loss fell: the training pictures are memorized; set"
        " --training.early-stopping, or raise --training.augmentation.shift and the like"
    )


_CHECKS: dict[str, Callable[[_Progress], str | None]] = {
    "learning rate too large": _rate_too_large,
    "exploding gradients": _exploding_gradients,
    "dead ReLUs": _dead_units,
    "vanishing gradients": _vanishing_gradients,
    "learning rate too small": _rate_too_small,
    "labels shuffled": _labels_shuffled,
    "class never predicted": _never_predicted,
    "overfitting": _overfitting,
}
_EXPLAINING = {"learning rate too large", "dead ReLUs", "learning rate too small"}
_EXPLAINED = {"vanishing gradients", "labels shuffled", "learning rate too small"}
