"""The shard of one Horovod process: read into memory or streamed by Petastorm, batched and augmented by tf.data."""

import functools
import itertools
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from horovod.spark.common.datamodule import DataModule
from petastorm.arrow_reader_worker import ArrowReaderWorker
from petastorm.reader import Reader
from petastorm.workers_pool.dummy_pool import DummyPool

from preprocessing.file_systems import PyarrowFileSystem, open_url
from training.augmentation import augment
from training.store import LABEL, PIXELS
from training.training_settings import Augmentation

# A shard of at most this size is kept in memory. A larger one is streamed, with a shuffle buffer of this size.
MEMORY_BYTES = 32 * 1024 * 1024


class ShardDataModule(DataModule):
    """The shard of a rank, with one byte per pixel: in memory if it fits into 32 MB, otherwise streamed.

    Horovod's own module unbatches and rebatches row by row; here a batch is one gather from an array. A stream reads
    the row groups in a different order in each epoch and shuffles their rows in a buffer of 32 MB, so that a process
    needs no more memory for a million pictures than for a thousand.

    Args:
        shape: ``(height, width, channels)`` of a picture.
        num_classes: number of classes.
        augmentation: random changes to the training pictures.
        random_seed: seed of the order of the rows and of the augmentation.
        kwargs: arguments that ``KerasEstimator`` passes to every data module.
    """

    short_name = "shard"

    def __init__(
        self,
        shape: tuple[int, int, int],
        num_classes: int,
        augmentation: Augmentation,
        random_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.shape = shape
        self.num_classes = num_classes
        self.augmentation = augmentation
        self.seed = random_seed

    def train_data(self) -> tf.data.Dataset:
        """Return endless batches of ``uint8`` pixels ``(batch, pixels)`` and one-hot labels ``(batch, classes)``."""
        # Each rank has its own order and its own random changes.
        seed = self.seed * self.shard_count + self.cur_shard
        batches = self._rows(self.train_dir, self.train_batch_size, seed)
        seeds = tf.data.Dataset.random(seed=seed).batch(2)
        augments = self.augmentation != Augmentation()

        @tf.autograph.experimental.do_not_convert  # the conversion takes as long as the trace of the first step
        def prepare(batch: tuple[tf.Tensor, tf.Tensor], seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            x, y = batch
            return (augment(x, self.shape, self.augmentation, seed) if augments else x), tf.one_hot(y, self.num_classes)

        return _without_autotune(tf.data.Dataset.zip((batches, seeds)).map(prepare).prefetch(2))

    def val_data(self) -> tf.data.Dataset:
        """Return endless batches of the shard's validation rows, always in the same order."""
        batches = self._rows(self.val_dir, self.val_batch_size, None)
        return _without_autotune(batches.map(lambda x, y: (x, tf.one_hot(y, self.num_classes))).prefetch(2))

    def _rows(self, path: str | list[str], batch_size: int, seed: int | None) -> tf.data.Dataset:
        """Return endless batches of pixels and class indices, shuffled if there is a seed."""
        shard, size = [], 0
        with self._reader(path, None) as reader:
            for pixels, labels in _chunks(reader):
                shard.append((pixels, labels))
                size += pixels.nbytes
                if size > MEMORY_BYTES:
                    width = pixels.shape[1]
                    del shard
                    return self._stream(path, batch_size, seed, width)
        pixels, labels = (tf.constant(np.concatenate(arrays)) for arrays in zip(*shard, strict=True))
        rows = tf.data.Dataset.range(len(labels))
        if seed is not None:
            rows = rows.shuffle(len(labels), seed=seed)
            rows = rows.repeat().batch(batch_size)
        else:
            rows = rows.batch(batch_size).repeat()
        return rows.map(lambda indices: (tf.gather(pixels, indices), tf.gather(labels, indices)))

    def _stream(self, path: str | list[str], batch_size: int, seed: int | None, width: int) -> tf.data.Dataset:
        def chunks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            # Training rows are read endlessly. Validation rows are read once here; repeat() below keeps their order.
            for epoch in itertools.count() if seed is not None else (None,):
                # A different seed in each epoch; Petastorm treats 0 as no seed.
                epoch_seed = None if epoch is None else 1 + zlib.crc32(f"{seed} {epoch}".encode()) % (2**31 - 1)
                with self._reader(path, epoch_seed) as reader:
                    yield from _chunks(reader)

        signature = (tf.TensorSpec((None, width), tf.uint8), tf.TensorSpec((None,), tf.int32))
        rows = tf.data.Dataset.from_generator(chunks, output_signature=signature).unbatch()
        if seed is not None:
            return rows.shuffle(MEMORY_BYTES // width, seed=seed).batch(batch_size)
        return rows.batch(batch_size).repeat()

    def _reader(self, path: str | list[str], seed: int | None) -> Reader:
        # make_batch_reader is not used because it parses the path as an encoded URL, which would end at a "#".
        urls = [path] if isinstance(path, str) else path
        system, _ = open_url(urls[0])
        paths = [open_url(url)[1] for url in urls]
        return Reader(
            PyarrowFileSystem(system),
            paths[0] if isinstance(path, str) else paths,
            worker_class=ArrowReaderWorker,
            is_batched_reader=True,
            schema_fields=[PIXELS, LABEL],
            num_epochs=1,
            cur_shard=self.cur_shard,
            shard_count=self.shard_count,
            shuffle_row_groups=seed is not None,
            seed=seed,
            # Reading in this thread keeps the order; Petastorm 0.13's thread pool may stop before the last part files.
            reader_pool=DummyPool(),
        )


def _without_autotune(data: tf.data.Dataset) -> tf.data.Dataset:
    """Disable autotuning: nothing here needs it, and a process would wait up to a minute at exit for its thread."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def _chunks(reader: Reader) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pixels ``uint8`` ``(rows, width)`` and class indices ``int32`` of each row group."""
    for batch in reader:
        labels = getattr(batch, LABEL).astype(np.int32)
        yield np.frombuffer(b"".join(getattr(batch, PIXELS)), dtype=np.uint8).reshape(len(labels), -1), labels


def data_module(shape: tuple[int, int, int], num_classes: int, augmentation: Augmentation) -> Callable[..., DataModule]:
    """Create the ``data_module`` argument of ``KerasEstimator`` for pictures of this shape."""
    return functools.partial(ShardDataModule, shape, num_classes, augmentation)
