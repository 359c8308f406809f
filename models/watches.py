"""What the figures of a training say is wrong with it, in a sentence that names the setting to change."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# A figure that is a multiple of guessing's, or a share of it, is no chance. The default experiments keep a distance of
# three times and more to each of these.
_ABOVE_GUESSING = 1.5
_DEAD = 0.95
_EXPLODING, _VANISHING = 10.0, 1e-4
_UNMOVED = 0.02
# Epochs after which a network that learns does better than guessing.
_EPOCHS = 3
# In a row. A healthy network with normalised layers may miss a class for the first two epochs, while the steps are long
# and the running statistics are behind.
_LOOKS = 3
_LOSS_RISE, _ACCURACY_GAP, _EPOCHS_SINCE_BEST = 1.2, 0.05, 2

History = list[dict[str, Any]]
Finding = dict[str, Any]


def findings(history: History, classes: list[str], rate: str = "--training.learning-rate") -> list[Finding]:
    """What the last epoch shows that none before it has shown.

    Args:
        history: a row an epoch: ``epoch``, ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``, ``curve`` (the
            training loss on the way), ``probe`` where the network was looked into, see
            :meth:`models.probe.Probe.look`, and ``findings``, what this function found in those before the last.
        classes: in the order of the network's answers.
        rate: the option that sets the learning rate.

    Returns:
        ``watch``, which one it is, ``epoch``, and ``sentence``.
    """
    known = {finding["watch"] for row in history for finding in row.get("findings", [])}
    found, seen = [], _Seen(history, classes, rate)
    for name, watch in _WATCHES.items():
        # a rate that is too large, or dead units, explain the rest
        if name not in known and not (name in _EXPLAINED and known & _EXPLAINING):
            sentence = watch(seen)
            if sentence:
                known.add(name)
                found.append({"watch": name, "epoch": history[-1]["epoch"], "sentence": sentence})
    return found


@dataclass(frozen=True)
class _Seen:
    """What a watch looks at: the arguments of :func:`findings`."""

    history: History
    classes: list[str]
    rate: str


def _rate_too_large(seen: _Seen) -> str | None:
    curve, guessing = seen.history[-1]["curve"], math.log(len(seen.classes))
    highest = max(curve[len(curve) // 2 :])
    if highest <= _ABOVE_GUESSING * guessing:
        return None
    return (
        f"the loss is as high as {highest:.3g}, and guessing has {guessing:.2f}: the steps are too long,"
        f" lower {seen.rate}"
    )


def _dead_units(seen: _Seen) -> str | None:
    dead = {layer: share for layer, share in _probed(seen.history).get("dead", {}).items() if share >= _DEAD}
    if not dead:
        return None
    layers = ", ".join(f"{share:.0%} of {layer}" for layer, share in dead.items())
    return (
        f"ReLU units that are 0 for every picture learn no more: {layers}; lower {seen.rate},"
        " or take a --network.name with normalised layers, such as handshape"
    )


def _exploding_gradients(seen: _Seen) -> str | None:
    gradients = _probed(seen.history).get("gradients", {})
    layer = max(gradients, key=gradients.__getitem__, default=None)
    if layer is None or gradients[layer] <= _EXPLODING:
        return None
    return f"the gradient of {layer} has grown to {gradients[layer]:.3g} a weight, it explodes: lower {seen.rate}"


def _vanishing_gradients(seen: _Seen) -> str | None:
    gradients = _probed(seen.history).get("gradients", {})
    first, last = next(iter(gradients), ""), next(reversed(gradients), "")
    if not gradients or gradients[first] >= _VANISHING * gradients[last]:
        return None
    return (
        f"the gradient of the first layer, {first}, is {gradients[first]:.1g} a weight, and that of the last, {last},"
        f" {gradients[last]:.1g}: it vanishes on its way; take a --network.name with fewer or normalised layers, such"
        " as handshape"
    )


def _rate_too_small(seen: _Seen) -> str | None:
    row, moved = seen.history[-1], _probed(seen.history).get("moved", math.inf)
    if len(seen.history) < _EPOCHS or row["accuracy"] >= 0.5 or moved >= _UNMOVED:
        return None
    return (
        f"after {row['epoch']} epochs the loss is {row['loss']:.3f}, from {seen.history[0]['loss']:.3f}, and the"
        f" weights have moved by {moved:.2%} of their length: the steps are too short, raise {seen.rate}"
    )


def _labels_shuffled(seen: _Seen) -> str | None:
    row, guessing = seen.history[-1], 1 / len(seen.classes)
    if len(seen.history) < _EPOCHS or max(row["accuracy"], row["val_accuracy"]) >= 2 * guessing:
        return None
    return (
        f"after {row['epoch']} epochs the accuracy is {row['accuracy']:.3f}, that of guessing among {len(seen.classes)}"
        f" classes: do the labels belong to the pictures of --data? Else try another {seen.rate}"
    )


def _never_predicted(seen: _Seen) -> str | None:
    looks = [set(row["probe"]["unanswered"]) for row in seen.history if "probe" in row][-_LOOKS:]
    if len(looks) < _LOOKS or seen.history[-1]["accuracy"] < 1 - 3 / len(seen.classes):
        return None
    never = [seen.classes[place] for place in sorted(set.intersection(*looks))]
    if not never:
        return None
    return (
        f"{', '.join(never)} {'is' if len(never) == 1 else 'are'} never the answer, not to training pictures of"
        " that class either: are there too few of them, or do they have another class's label? With several sources,"
        " --training.balance true helps"
    )


def _parted(seen: _Seen) -> str | None:
    best, row = min(seen.history, key=lambda row: row["val_loss"]), seen.history[-1]
    apart = row["accuracy"] - row["val_accuracy"] > _ACCURACY_GAP
    rising = row["val_loss"] > _LOSS_RISE * best["val_loss"] and row["loss"] < best["loss"]
    if not (apart and rising and row["epoch"] - best["epoch"] >= _EPOCHS_SINCE_BEST):
        return None
    return (
        f"since epoch {best['epoch']} the validation loss has risen from {best['val_loss']:.3f} to"
        f" {row['val_loss']:.3f} while the training loss fell: the pictures are learned by heart; set"
        " --training.early-stopping, or raise --training.augmentation.shift and the like"
    )


def _probed(history: History) -> dict[str, Any]:
    """What the last look saw."""
    return next((row["probe"] for row in reversed(history) if "probe" in row), {})


_WATCHES: dict[str, Callable[[_Seen], str | None]] = {
    "learning rate too large": _rate_too_large,
    "exploding gradients": _exploding_gradients,
    "dead ReLUs": _dead_units,
    "vanishing gradients": _vanishing_gradients,
    "learning rate too small": _rate_too_small,
    "labels shuffled": _labels_shuffled,
    "class never predicted": _never_predicted,
    "validation parts from training": _parted,
}
_EXPLAINING = {"learning rate too large", "dead ReLUs", "learning rate too small"}
_EXPLAINED = {"vanishing gradients", "labels shuffled", "learning rate too small"}
