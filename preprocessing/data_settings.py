"""The data settings of an experiment. Must import without Spark: the command line is parsed before Spark is loaded."""

import re
from dataclasses import dataclass
from typing import Literal

import yaml
from jsonargparse.typing import ClosedUnitInterval, NonNegativeInt, OpenUnitInterval, PositiveInt

# Smaller pictures are unrecognizable, and no network takes larger ones.
SIZES = range(8, 1025)
PATTERN_GROUPS = {"label", "signer", "frame"}


@dataclass(frozen=True)
class Source:
    """A source of pictures: a folder with Sign-MNIST's two CSV files, or of photographs with one subfolder per class.

    Args:
        path: the folder, relative to --data if that is given. Its subfolders named like train, validation and test are
            the splits; without a test folder the pictures are divided by split.test and split.validation.
        name: the name of the source in the report. None: the name of the folder.
        pattern: a regular expression that is searched for in the path of each file within the folder. Its named groups
            describe the picture: label (default: the name of the file's folder), signer, frame (a number).
        split: train, validation or test, the split that all pictures of the source are in. None: they are divided.
        fraction: the fraction of the source's training pictures that is used.
    """

    path: str
    name: str | None = None
    pattern: str | None = None
    split: Literal["train", "validation", "test"] | None = None
    fraction: ClosedUnitInterval = 1.0

    def __post_init__(self) -> None:
        if self.fraction == 0:
            raise ValueError(f"sources.fraction of {self.title} is 0; it must be above 0 and at most 1")
        if self.pattern is None:
            return
        try:
            groups = set(re.compile(self.pattern).groupindex)
        except re.error as error:
            raise ValueError(f"sources.pattern {self.pattern!r} is no regular expression: {error}") from error
        if not groups or groups - PATTERN_GROUPS:
            raise ValueError(
                f"sources.pattern {self.pattern!r} has the groups {', '.join(sorted(groups)) or 'none'};"
                f" it takes one or more of {', '.join(sorted(PATTERN_GROUPS))}, such as (?P<signer>user_\\d+)/"
            )

    @property
    def title(self) -> str:
        return self.name or self.path.rstrip("/").rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Preprocessing:
    """How pictures are converted to rows, and rows to features.

    Args:
        size: the side length in pixels of every preprocessed picture; Sign-MNIST's pictures have 28.
        crop: hand, a square around the largest hand that is found in the picture, or its center if there is no hand; or
            center, always the center. Pictures with a side of less than 64 pixels, like Sign-MNIST's, are not searched.
        mirror_left_hands: mirror the crop of a left hand, so that all hands that are found look like right hands.
        resize: the length of the shorter side in pixels before the center is cropped. None: size.
        color: gray, one byte per pixel, or rgb, three bytes.
        normalization: range, each value is divided by 255; or channel, the mean of the channel is subtracted and the
            result divided by its standard deviation, both measured on the training pictures.
        allow_duplicates: whether exact duplicates of a picture are kept.
    """

    size: PositiveInt = 28
    crop: Literal["hand", "center"] = "hand"
    mirror_left_hands: bool = True
    resize: PositiveInt | None = None
    color: Literal["gray", "rgb"] = "gray"
    normalization: Literal["range", "channel"] = "range"
    allow_duplicates: bool = False

    def __post_init__(self) -> None:
        for name, value in (("size", self.size), ("resize", self.short_side)):
            if value not in SIZES:
                raise ValueError(
                    f"preprocessing.{name} is {value}; pictures have {SIZES.start} to {SIZES.stop - 1} pixels per side"
                )
        if self.short_side < self.size:
            raise ValueError(
                f"preprocessing.resize is {self.resize}, less than preprocessing.size, {self.size},"
                " which is cropped from it"
            )

    @property
    def short_side(self) -> int:
        return self.resize or self.size

    @property
    def shape(self) -> tuple[int, int, int]:
        return int(self.size), int(self.size), 1 if self.color == "gray" else 3


def preprocessing_of(experiment: str) -> Preprocessing:
    """The preprocessing settings of a finished run; ``experiment`` is the content of its ``experiment.yaml``."""
    # runs of earlier versions do not name the crop, which was always the center, and mirrored no hand
    return Preprocessing(
        **({"crop": "center", "mirror_left_hands": False} | yaml.safe_load(experiment)["preprocessing"])
    )


@dataclass(frozen=True)
class Split:
    """How pictures are divided into training, validation and test sets.

    Args:
        by: row, each picture is assigned by itself; or group, the pictures of a group stay in one split. Groups are
            the signers or else blocks of consecutive frames, if the pattern has them, and otherwise near-duplicates.
        validation: the fraction of the pictures held out to choose the best epoch, for a source without a validation
            set of its own; if the source has a test set of its own, the fraction of its other pictures.
        test: the fraction of the pictures held out for evaluation, for a source without a test set of its own.
        frames: the number of consecutive frames that make a group, if the pattern has a frame.
        seed: the random seed of the split. None: the seed of the experiment.
    """

    by: Literal["row", "group"] = "row"
    validation: OpenUnitInterval = 0.1
    test: OpenUnitInterval = 0.1
    frames: PositiveInt = 50
    seed: NonNegativeInt | None = None

    def __post_init__(self) -> None:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"split.validation {self.validation:g} and split.test {self.test:g} leave nothing to train on"
            )
