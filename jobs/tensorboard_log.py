"""TensorBoard's logs of a run: each epoch's figures, training beside validation, as they come."""

from typing import Any

import tensorflow as tf

from preprocessing.errors import InputError

METRICS = ("loss", "accuracy", "precision", "recall")


class TensorBoardLog:
    """Writes ``<folder>/<run>/train`` and ``…/validation``, which TensorBoard draws in one chart.

    Args:
        folder: anything that TensorFlow writes to.
        run: its name.

    Raises:
        InputError: the folder cannot be written.
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
