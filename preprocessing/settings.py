"""What an experiment may say about its data. Light to import: the command line is parsed before Spark is loaded."""

from dataclasses import dataclass

from jsonargparse.typing import OpenUnitInterval


@dataclass(frozen=True)
class Preprocessing:
    """How rows become features.

    Args:
        validation: the share of each class's training rows that is kept back to choose the best epoch by.
    """

    validation: OpenUnitInterval = 0.1
