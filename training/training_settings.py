"""An experiment's settings of training and search. Imports nothing large, like models/model_settings.py."""

from dataclasses import dataclass, field, replace
from typing import Literal

from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, PositiveFloat, PositiveInt

from models.model_settings import Optimizer


@dataclass(frozen=True)
class Augmentation:
    """Random changes to the training pictures. 0 disables a change; amounts are drawn for each picture.

    Args:
        rotation: maximum angle in both directions, in degrees.
        shift: maximum shift in both directions, as a fraction of the side.
        zoom: maximum change of the size, larger or smaller, as a fraction.
        brightness: maximum change of all pixels, up or down, as a fraction of the full range 0..255.
        contrast: maximum change of the distance to the picture's mean, up or down, as a fraction.
        gamma: maximum change of the logarithm of gamma in both directions; gamma is 1 without a change, and makes dark
            areas brighter below 1 and darker above it.
        stretch: maximum change of the width, as a fraction; the height changes inversely.
        color: maximum change of each channel's intensity, up or down, as a fraction.
        gray: fraction of pictures that lose their color.
        noise: maximum standard deviation of normally distributed noise, as a fraction of the full range.
        flip: fraction of pictures that are mirrored, as if they showed the other hand.
        background: fraction of pictures in which the areas that resemble the edge get another color.
        blur: fraction of pictures that lose detail, as if they had been 28 to 56 pixels wide.
        erase: fraction of pictures in which a rectangle is covered with noise; its sides are at most a third of the
            picture's.
    """

    rotation: NonNegativeFloat = 0.0
    shift: ClosedUnitInterval = 0.0
    zoom: ClosedUnitInterval = 0.0
    brightness: ClosedUnitInterval = 0.0
    contrast: ClosedUnitInterval = 0.0
    gamma: ClosedUnitInterval = 0.0
    stretch: ClosedUnitInterval = 0.0
    color: ClosedUnitInterval = 0.0
    gray: ClosedUnitInterval = 0.0
    noise: ClosedUnitInterval = 0.0
    flip: ClosedUnitInterval = 0.0
    background: ClosedUnitInterval = 0.0
    blur: ClosedUnitInterval = 0.0
    erase: ClosedUnitInterval = 0.0


@dataclass(frozen=True)
class FineTuning:
    """Additional epochs at the end, in which a part of the backbone is trained, too.

    Args:
        layer: first layer of the backbone that is trained, such as conv5_block1_1_conv.
        epochs: number of additional epochs.
        learning_rate: learning rate for one process.
    """

    layer: str
    epochs: PositiveInt = 5
    learning_rate: PositiveFloat = 0.00001


@dataclass(frozen=True)
class Training:
    """Hyperparameters and options of the training of a network.

    Args:
        epochs: number of passes over the training rows.
        batch_size: batch size of one process; the effective batch size is num_proc times as large.
        learning_rate: learning rate for one process; Horovod multiplies it by the number of processes.
        optimizer: optimizer and its parameters.
        schedule: learning rate schedule. constant; cosine: warm-up in the first epoch, then half a cosine down to 0;
            plateau: halved whenever the validation loss has not fallen for patience epochs.
        patience: number of epochs for the plateau schedule.
        early_stopping: stop training when the validation loss has not fallen for this many epochs. None: disabled.
        label_smoothing: fraction of a label's weight that is spread over all classes.
        balance: repeat the training pictures of smaller sources, so that all sources have equally many.
        calibration: fit the temperature of the probabilities to the validation pictures.
        precision: data type of convolutions and matrix products. In bfloat16 they are up to 1.7 times as fast on
            processors with AVX512-BF16 or AMX, and slower on others. Weights stay float32.
        diagnostics: check after each epoch for problems: steps that are too large or too small, exploding or vanishing
            gradients, dead units, classes that are never predicted, labels that do not match their pictures, and
            overfitting. Each finding is printed as one line that names the setting to change.
        augmentation: random changes to the training pictures.
        augmented_pictures: number of augmented training pictures, with equally many of each source and, within it, of
            each class, that pass through the frozen layers of a backbone once, before the training. Each epoch trains
            the other layers on the stored results. None: pictures are augmented anew in each epoch, and pass through
            all layers.
        fine_tuning: additional epochs for networks with a backbone. None: no fine-tuning.
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
    diagnostics: bool = field(default=True, metadata={"runtime": True})  # may differ when training is resumed
    augmentation: Augmentation = field(default_factory=Augmentation)
    augmented_pictures: PositiveInt | None = None
    fine_tuning: FineTuning | None = None

    @property
    def all_epochs(self) -> int:
        """Number of epochs including those of the fine-tuning."""
        return self.epochs + (self.fine_tuning.epochs if self.fine_tuning else 0)

    def times(self, factor: float) -> "Training":
        """Return a copy in which all numbers of epochs are multiplied by a factor."""

        def scaled(epochs: int) -> int:
            return max(1, round(epochs * factor))

        fine_tuning, early_stopping = self.fine_tuning, self.early_stopping
        return replace(
            self,
            epochs=scaled(self.epochs),
            patience=scaled(self.patience),
            early_stopping=early_stopping and scaled(early_stopping),
            fine_tuning=fine_tuning and replace(fine_tuning, epochs=scaled(fine_tuning.epochs)),
        )


Value = bool | int | float | str


@dataclass(frozen=True)
class Parameter:
    """One dimension of a search: a range or choices.

    Args:
        low: smallest value of a range. Values are integers if low and high are.
        high: largest value of a range.
        log: sample the range uniformly on a logarithmic scale.
        choices: list of values instead of a range.
    """

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: list[Value] | None = None

    def __post_init__(self) -> None:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("a search parameter has either choices or low and high, and not both")
            if len(set(self.choices)) < max(2, len(self.choices)):
                raise ValueError(f"choices are {self.choices}: two or more different ones are needed")
        elif self.low is None or self.high is None:
            raise ValueError("a search parameter needs low and high, or choices")
        elif self.low >= self.high:
            raise ValueError(f"low is {self.low} and high {self.high}: low must be less than high")
        elif self.log and self.low <= 0:
            raise ValueError(f"low is {self.low}: a logarithm needs more than 0")

    @property
    def ends(self) -> list[Value]:
        """The values that are validated before the search: both ends of the range, or all choices."""
        return list(self.choices) if self.choices is not None else [self.low, self.high]  # type: ignore[list-item]


Metric = Literal["val_loss", "val_accuracy", "val_precision", "val_recall"]


@dataclass(frozen=True)
class Search:
    """The space and the objective of a hyperparameter search.

    Args:
        space: a range or choices for fields of network and training, such as training.learning_rate.
        metric: metric of the validation pictures at the epoch with the lowest validation loss. val_loss is minimized,
            the others are maximized.
        folds: number of folds for cross-validation on the training and validation pictures; the metric is the mean over
            the folds. None: one training on the experiment's own split.
    """

    space: dict[str, Parameter] = field(default_factory=dict)
    metric: Metric = "val_loss"
    folds: PositiveInt | None = None

    def __post_init__(self) -> None:
        for name in self.space:
            if not name.startswith(("network.", "training.")):
                raise ValueError(f"search.space.{name}: fields of network and training can be searched")
            if name in ("training.balance", "training.calibration", "training.diagnostics"):
                raise ValueError(f"search.space.{name}: no trial is trained otherwise for it")
        if self.folds == 1:
            raise ValueError("search.folds is 1; at least 2 are needed")
        if self.metric == "val_loss" and "training.label_smoothing" in self.space:
            raise ValueError(
                "search.space.training.label_smoothing changes what val_loss means: set search.metric to val_accuracy"
            )
