"""Logging of a run to TensorBoard: the training and validation metrics of each epoch."""

from typing import Any

import tensorflow as tf

from preprocessing.errors import InputError

METRICS = ("loss", "accuracy", "precision", "recall")


class TensorBoardLog:
    """Writes to ``<folder>/<run>/train`` and ``…/validation``, which TensorBoard draws in the same charts.

    Args:
        folder: a local path or another URL that TensorFlow can write to.
        run: the name of the run.

    Raises:
        InputError: TensorFlow cannot write to the folder.
    """

    def __init__(self, folder: str, run: str) -> None:
        try:
            self.train, self.validation = (
                tf.summary.create_file_writer(f"{folder.rstrip('/')}/{run}/{split}")
                for split in ("train", "validation")
            )
            self.train.flush()
        except tf.errors.OpError as error:
            raise InputError(f"--tensorboard {folder}: cannot be written: {error.message}") from error

    def epoch(self, row: dict[str, Any]) -> None:
        """Write the metrics of an epoch that has just ended."""
        step = row["epoch"]
        with self.train.as_default(step):
            for name in (*METRICS, "learning_rate", "images_per_second"):
                tf.summary.scalar(name, row[name])
        with self.validation.as_default(step):
            for name in METRICS:
                tf.summary.scalar(name, row[f"val_{name}"])
        self.train.flush()
        self.validation.flush()
