"""How one Horovod process gets its shard: read once by Petastorm, kept as bytes, batched and augmented by tf.data."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from horovod.spark.common.datamodule import DataModule
from petastorm import make_batch_reader

from models.augmentation import augment
from models.settings import Augmentation
from models.store import LABEL, PIXELS


class ShardDataModule(DataModule):
    """A rank's share of the rows in memory, one byte a pixel.

    Horovod's own module unbatches and rebatches row by row; here a batch is one gather from an array.

    Args:
        shape: ``(height, width, channels)`` of a picture.
        classes: the number of classes.
        augmentation: how training pictures are changed.
        kwargs: what ``KerasEstimator`` gives every data module.
    """

    short_name = "shard"

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        augmentation: Augmentation,
        random_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.shape = shape
        self.classes = classes
        self.augmentation = augmentation
        self.seed = random_seed

    def train_data(self) -> tf.data.Dataset:
        """Batches without end: ``uint8`` pixels ``(batch, pixels)`` and one-hot labels ``(batch, classes)``."""
        pixels, labels = self._read_shard(self.train_dir)
        # Another order and other changes on every rank.
        seed = self.seed * self.shard_count + self.cur_shard
        rows = tf.data.Dataset.range(len(labels)).shuffle(len(labels), seed=seed).repeat()
        seeds = tf.data.Dataset.random(seed=seed).batch(2)
        batches = tf.data.Dataset.zip((rows.batch(self.train_batch_size), seeds))
        changes = self.augmentation != Augmentation()

        def gather(indices: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            x, y = tf.gather(pixels, indices), tf.one_hot(tf.gather(labels, indices), self.classes)
            return (augment(x, self.shape, self.augmentation, seed) if changes else x), y

        return batches.map(gather).prefetch(4)

    def val_data(self) -> tf.data.Dataset:
        """The shard's validation rows once, in order."""
        pixels, labels = self._read_shard(self.val_dir)
        rows = tf.data.Dataset.range(len(labels)).batch(self.val_batch_size)
        return rows.map(
            lambda indices: (tf.gather(pixels, indices), tf.one_hot(tf.gather(labels, indices), self.classes))
        ).repeat()

    def _read_shard(self, path: str) -> tuple[tf.Tensor, tf.Tensor]:
        with make_batch_reader(
            path,
            schema_fields=[PIXELS, LABEL],
            num_epochs=1,
            cur_shard=self.cur_shard,
            shard_count=self.shard_count,
            shuffle_row_groups=False,
            # in this thread, which keeps one order; Petastorm 0.13's pool of threads may end before its last pieces
            reader_pool_type="dummy",
            storage_options=self.storage_options,
        ) as reader:
            batches = [(b"".join(getattr(batch, PIXELS)), getattr(batch, LABEL)) for batch in reader]
        labels = np.concatenate([labels for _, labels in batches]).astype(np.int32)
        pixels = np.frombuffer(b"".join(pixels for pixels, _ in batches), dtype=np.uint8).reshape(len(labels), -1)
        return tf.constant(pixels), tf.constant(labels)


def data_module(shape: tuple[int, int, int], classes: int, augmentation: Augmentation) -> Callable[..., DataModule]:
    """What ``KerasEstimator(data_module=)`` takes, for pictures of this shape."""
    return functools.partial(ShardDataModule, shape, classes, augmentation)
