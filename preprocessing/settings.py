"""What an experiment may say about its data. Light to import: the command line is parsed before Spark is loaded."""

import re
from dataclasses import dataclass
from typing import Literal

import yaml
from jsonargparse.typing import OpenUnitInterval, PositiveInt

# Smaller ones show nothing, larger ones are no size that a network takes.
SIZES = range(8, 1025)
PATTERN_GROUPS = {"label", "signer", "frame"}


@dataclass(frozen=True)
class Source:
    """Where pictures come from: a folder with Sign-MNIST's two CSV files, or one of photographs, a folder a class.

    Args:
        path: the folder, under --data if that is given. Folders in it that are called like train, validation and test
            are the splits; without a test folder the pictures are divided by split.test and split.validation.
        name: how the report calls it; none: the folder's name.
        pattern: a regular expression that is searched for in each file's path within the folder. Its named groups are
            the picture's: label (otherwise the name of the file's folder), signer, frame (a number).
    """

    path: str
    name: str | None = None
    pattern: str | None = None

    def __post_init__(self) -> None:
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
    """How pictures become rows, and rows features.

    Args:
        size: pixels a side of every picture, whatever it was; Sign-MNIST's have 28.
        resize: pixels of the shorter side before the centre is cut out; none: size.
        color: grey, one byte a pixel, or rgb, three.
        normalisation: range, each value divided by 255; or channel, minus the mean of its channel, divided by its
            standard deviation, both measured on the training pictures.
        allow_duplicates: exact repetitions of a picture stay.
    """

    size: PositiveInt = 28
    resize: PositiveInt | None = None
    color: Literal["grey", "rgb"] = "grey"
    normalisation: Literal["range", "channel"] = "range"
    allow_duplicates: bool = False

    def __post_init__(self) -> None:
        for name, value in (("size", self.size), ("resize", self.short_side)):
            if value not in SIZES:
                raise ValueError(
                    f"preprocessing.{name} is {value}; pictures have {SIZES.start} to {SIZES.stop - 1} pixels a side"
                )
        if self.short_side < self.size:
            raise ValueError(
                f"preprocessing.resize is {self.resize}, less than preprocessing.size, {self.size},"
                " which is cut out of it"
            )

    @property
    def short_side(self) -> int:
        return self.resize or self.size

    @property
    def shape(self) -> tuple[int, int, int]:
        return int(self.size), int(self.size), 1 if self.color == "grey" else 3


def preprocessing_of(experiment: str) -> Preprocessing:
    """That of a finished run; ``experiment`` is its ``experiment.yaml``."""
    return Preprocessing(**yaml.safe_load(experiment)["preprocessing"])


@dataclass(frozen=True)
class Split:
    """Which pictures train, choose the epoch, and judge.

    Args:
        by: row, each picture by itself; or group, near-copies of one photograph on one side: groups are the pattern's
            signer, or neighbouring frames where it has a frame, and otherwise found by similarity.
        validation: the share of the pictures that is kept back to choose the best epoch by, where a source has no
            validation set of its own; where it has a test set of its own, the share of the others.
        test: the share of the pictures that is kept back to judge on, where a source has no test set of its own.
        frames: how many frames in a row make a group, where the pattern has a frame.
    """

    by: Literal["row", "group"] = "row"
    validation: OpenUnitInterval = 0.1
    test: OpenUnitInterval = 0.1
    frames: PositiveInt = 50

    def __post_init__(self) -> None:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"split.validation {self.validation:g} and split.test {self.test:g} leave nothing to train on"
            )
