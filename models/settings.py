"""What an experiment may say about a model. Light to import: the command line is parsed before TensorFlow is loaded."""

from dataclasses import dataclass, field, replace
from typing import Literal

from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, PositiveFloat, PositiveInt

OptimizerName = Literal["adam", "adamw", "rmsprop", "sgd"]
NetworkName = Literal["baseline", "handshape", "handshape_photo", "dexnet_v1", "dexnet_v2", "resnet50"]
BACKBONES = ("handshape_photo", "resnet50")
# Classes that an answer names beside the likeliest.
RUNNERS_UP = 4


@dataclass(frozen=True)
class Augmentation:
    """How far a training picture may be changed; 0 leaves that property alone. Every amount is drawn per picture.

    Args:
        rotation: largest angle either way, in degrees.
        shift: largest move either way, as a share of the side.
        zoom: largest change of size either way, as a share.
        brightness: largest change of all pixels either way, as a share of the full range 0..255.
        contrast: largest change of the distance to the picture's mean either way, as a share.
        stretch: largest change of the width, the height the other way, as a share.
        color: largest change of each channel's strength either way, as a share.
        flip: the share of pictures that are mirrored: the other hand.
        background: the share of pictures in which what looks like their edge becomes another colour.
        blur: the share of pictures that lose their detail, as if they had been 28 pixels wide, or a little more.
        erase: the share of pictures of which a rectangle, a third of the sides at most, is covered with noise.
    """

    rotation: NonNegativeFloat = 0.0
    shift: ClosedUnitInterval = 0.0
    zoom: ClosedUnitInterval = 0.0
    brightness: ClosedUnitInterval = 0.0
    contrast: ClosedUnitInterval = 0.0
    stretch: ClosedUnitInterval = 0.0
    color: ClosedUnitInterval = 0.0
    flip: ClosedUnitInterval = 0.0
    background: ClosedUnitInterval = 0.0
    blur: ClosedUnitInterval = 0.0
    erase: ClosedUnitInterval = 0.0


@dataclass(frozen=True)
class Network:
    """Which network is trained.

    Args:
        name: baseline is the published PySpark system's CNN, handshape this project's for Sign-MNIST,
            handshape_photo this project's for photographs, dexnet_v1 and dexnet_v2 are the smaller AlexNets. resnet50
            and handshape_photo are a trained backbone, frozen at first, under dense layers.
        weights: resnet50's backbone: a Keras .h5 file of keras.applications' ResNet50, or none.
        head: the dense layers between a backbone and the softmax, their units.
    """

    name: NetworkName = "handshape"
    weights: str = "none"
    head: list[PositiveInt] = field(default_factory=lambda: [512, 256])

    def __post_init__(self) -> None:
        if self.weights != "none" and self.name != "resnet50":
            raise ValueError(f"network.weights belongs to resnet50, and network.name is {self.name}")


@dataclass(frozen=True)
class Optimizer:
    """What moves the weights; Keras's own parameters.

    Args:
        name: adam, adamw, rmsprop or sgd.
        momentum: of sgd and rmsprop.
        weight_decay: the share of each weight that is taken away a step, times the learning rate; none: nothing,
            and 0.004 with adamw, as Keras has it.
        epsilon: of adam, adamw and rmsprop, what keeps a division from one by zero.
    """

    name: OptimizerName = "adam"
    momentum: ClosedUnitInterval = 0.0
    weight_decay: NonNegativeFloat | None = None
    epsilon: PositiveFloat = 1e-7


@dataclass(frozen=True)
class FineTuning:
    """More epochs after the others, with a part of the backbone trained too.

    Args:
        layer: the first layer of the backbone that is trained, such as conv5_block1_1_conv.
        epochs: how many.
        learning_rate: for one process.
    """

    layer: str
    epochs: PositiveInt = 5
    learning_rate: PositiveFloat = 0.00001


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Args:
        epochs: passes over the training rows.
        batch_size: pictures a process takes at a time; all processes together take num_proc times as many.
        learning_rate: the optimizer's, for one process; Horovod multiplies it by the number of processes.
        optimizer: what moves the weights.
        schedule: constant; cosine: up in the first epoch, then down to 0 along half a cosine; or plateau: halved
            whenever the validation loss has not fallen for patience epochs.
        patience: of the plateau.
        early_stopping: the training ends when the validation loss has not fallen for so many epochs; none: it does not.
        label_smoothing: the share of a label's weight that is spread over all classes.
        balance: sources have equal shares of the training pictures: those of smaller ones are repeated.
        calibration: the probabilities are made to fit the validation pictures, by one temperature.
        precision: of convolutions and matrix products; in bfloat16 they are up to 1.7 times as fast on processors with
            AVX512-BF16 or AMX, and slower on others. Weights stay float32.
        watches: after an epoch, a look whether anything is wrong: steps too long or too short, gradients that explode
            or vanish, dead units, a class that is never the answer, labels that do not belong to their pictures, a
            validation that parts from the training. Each finding is a line that names the setting to change.
        augmentation: how training pictures are changed.
        fine_tuning: what follows, for networks with a backbone.
    """

    epochs: PositiveInt = 10
    batch_size: PositiveInt = 120
    learning_rate: PositiveFloat = 0.001
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    patience: PositiveInt = 3
    early_stopping: PositiveInt | None = None
    label_smoothing: ClosedUnitInterval = 0.0
    balance: bool = False
    calibration: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    watches: bool = True
    augmentation: Augmentation = field(default_factory=Augmentation)
    fine_tuning: FineTuning | None = None

    @property
    def all_epochs(self) -> int:
        """With those of the fine-tuning."""
        return self.epochs + (self.fine_tuning.epochs if self.fine_tuning else 0)

    def times(self, factor: float) -> "Training":
        """The same with so many times the epochs, and of all that is counted in them."""

        def scaled(epochs: int) -> int:
            return max(1, round(epochs * factor))

        tuning, stopping = self.fine_tuning, self.early_stopping
        return replace(
            self,
            epochs=scaled(self.epochs),
            patience=scaled(self.patience),
            early_stopping=stopping and scaled(stopping),
            fine_tuning=tuning and replace(tuning, epochs=scaled(tuning.epochs)),
        )


Value = bool | int | float | str


@dataclass(frozen=True)
class Parameter:
    """One dimension of a search: a range or choices.

    Args:
        low: the least value; whole numbers where both ends are.
        high: the largest.
        log: the range is drawn from evenly in its logarithm.
        choices: the values, where it is no range.
    """

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: list[Value] | None = None

    def __post_init__(self) -> None:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("a parameter of a search has choices, or low and high, and not both")
            if len(set(self.choices)) < max(2, len(self.choices)):
                raise ValueError(f"choices are {self.choices}: two or more different ones are searched")
        elif self.low is None or self.high is None:
            raise ValueError("a parameter of a search needs low and high, or choices")
        elif self.low >= self.high:
            raise ValueError(f"low is {self.low} and high {self.high}: low has to be less than high")
        elif self.log and self.low <= 0:
            raise ValueError(f"low is {self.low}: a logarithm needs more than 0")

    @property
    def ends(self) -> list[Value]:
        """The values that are to be tried whether they are allowed."""
        return list(self.choices) if self.choices is not None else [self.low, self.high]  # type: ignore[list-item]


Metric = Literal["val_loss", "val_accuracy", "val_precision", "val_recall"]


@dataclass(frozen=True)
class Search:
    """What is searched, and what for.

    Args:
        space: a range or choices for fields of network and training, such as training.learning_rate.
        metric: of the validation pictures, at the epoch with the lowest validation loss; the loss is to be low, the
            others high.
        folds: parts that the training and validation pictures are divided into, each of which validates once: the
            metric is their mean; none: one training, on the experiment's own split.
    """

    space: dict[str, Parameter] = field(default_factory=dict)
    metric: Metric = "val_loss"
    folds: PositiveInt | None = None

    def __post_init__(self) -> None:
        for name in self.space:
            if not name.startswith(("network.", "training.")):
                raise ValueError(f"search.space.{name}: fields of network and training are searched")
            if name in ("training.balance", "training.calibration", "training.watches"):
                raise ValueError(f"search.space.{name}: no trial is trained otherwise for it")
        if self.folds == 1:
            raise ValueError("search.folds is 1: two or more validate in turn")
        if self.metric == "val_loss" and "training.label_smoothing" in self.space:
            raise ValueError(
                "search.space.training.label_smoothing changes what a loss is: set search.metric to val_accuracy"
            )


@dataclass(frozen=True)
class Forest:
    """How the random forest is grown; Spark MLlib's own parameters.

    Args:
        trees: how many.
        max_depth: splits from root to leaf, 30 at most.
        max_bins: thresholds tried for a pixel; statistics, and so time, grow with them.
        min_instances_per_node: training rows a leaf has at least.
        feature_subset: how many pixels a split may choose from: sqrt, log2, onethird, all or auto.
        pca: principal components that the pixels are reduced to before; none: the pixels themselves.
    """

    trees: PositiveInt = 100
    max_depth: PositiveInt = 20
    max_bins: PositiveInt = 32
    min_instances_per_node: PositiveInt = 1
    feature_subset: Literal["auto", "all", "sqrt", "log2", "onethird"] = "auto"
    pca: PositiveInt | None = None

    def __post_init__(self) -> None:
        if self.max_depth > 30:
            raise ValueError(f"forest.max_depth is {self.max_depth}; Spark MLlib grows 30 levels at most")
        if self.max_bins < 2:
            raise ValueError(f"forest.max_bins is {self.max_bins}; at least 2 are needed")
