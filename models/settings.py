"""What an experiment may say about a model. Light to import: the command line is parsed before TensorFlow is loaded."""

from dataclasses import dataclass, field
from typing import Literal

from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, PositiveFloat, PositiveInt

NetworkName = Literal["baseline", "handshape"]


@dataclass(frozen=True)
class Augmentation:
    """How far a training picture may be changed; 0 leaves that property alone. Every amount is drawn per picture.

    Args:
        rotation: largest angle either way, in degrees.
        shift: largest move either way, as a share of the side.
        zoom: largest change of size either way, as a share.
        brightness: largest change of all pixels either way, as a share of the full range 0..255.
        contrast: largest change of the distance to the picture's mean either way, as a share.
    """

    rotation: NonNegativeFloat = 0.0
    shift: ClosedUnitInterval = 0.0
    zoom: ClosedUnitInterval = 0.0
    brightness: ClosedUnitInterval = 0.0
    contrast: ClosedUnitInterval = 0.0


@dataclass(frozen=True)
class Network:
    """Which network is trained.

    Args:
        name: baseline is the published system's CNN, handshape this project's.
    """

    name: NetworkName = "handshape"


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Args:
        epochs: passes over the training rows.
        batch_size: pictures a process takes at a time; all processes together take num_proc times as many.
        learning_rate: Adam's, for one process; Horovod multiplies it by the number of processes.
        schedule: constant, or cosine: up in the first epoch, then down to 0 along half a cosine.
        label_smoothing: the share of a label's weight that is spread over all classes.
        augmentation: how training pictures are changed.
    """

    epochs: PositiveInt = 10
    batch_size: PositiveInt = 120
    learning_rate: PositiveFloat = 0.001
    schedule: Literal["constant", "cosine"] = "constant"
    label_smoothing: ClosedUnitInterval = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class Forest:
    """How the random forest is grown; Spark MLlib's own parameters.

    Args:
        trees: how many.
        max_depth: splits from root to leaf, 30 at most.
        max_bins: thresholds tried for a pixel; statistics, and so time, grow with them.
        min_instances_per_node: training rows a leaf has at least.
        feature_subset: how many pixels a split may choose from: sqrt, log2, onethird, all or auto.
    """

    trees: PositiveInt = 100
    max_depth: PositiveInt = 20
    max_bins: PositiveInt = 32
    min_instances_per_node: PositiveInt = 1
    feature_subset: Literal["auto", "all", "sqrt", "log2", "onethird"] = "auto"

    def __post_init__(self) -> None:
        if self.max_depth > 30:
            raise ValueError(f"forest.max_depth is {self.max_depth}; Spark MLlib grows 30 levels at most")
        if self.max_bins < 2:
            raise ValueError(f"forest.max_bins is {self.max_bins}; at least 2 are needed")
