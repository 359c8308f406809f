"""TensorBoard's logs of a run: each epoch's figures, training beside validation, as they come."""

from typing import Any

import tensorflow as tf

METRICS = ("loss", "accuracy", "precision", "recall")


class TensorBoardLog:
    """Writes ``<folder>/<run>/train`` and ``…/validation``, which TensorBoard draws in one chart.

    Args:
        folder: anything that TensorFlow writes to.
        run: its name.
    """

    def __init__(self, folder: str, run: str) -> None:
        self.train, self.validation = (
            tf.summary.create_file_writer(f"{folder.rstrip('/')}/{run}/{split}") for split in ("train", "validation")
        )

    def epoch(self, row: dict[str, Any]) -> None:
        """Write the figures of an epoch that has just ended."""
        step = row["epoch"]
        with self.train.as_default(step):
            for name in (*METRICS, "learning_rate", "images_per_second"):
                tf.summary.scalar(name, row[name])
        with self.validation.as_default(step):
            for name in METRICS:
                tf.summary.scalar(name, row[f"val_{name}"])
        self.train.flush()
        self.validation.flush()
