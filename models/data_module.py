"""How one Horovod process gets its shard: read by Petastorm, once or as it goes, batched and augmented by tf.data."""

import functools
import itertools
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow
import tensorflow as tf
from horovod.spark.common.datamodule import DataModule
from petastorm.arrow_reader_worker import ArrowReaderWorker
from petastorm.fs_utils import get_filesystem_and_path_or_paths
from petastorm.reader import Reader
from petastorm.workers_pool.dummy_pool import DummyPool

from models.augmentation import augment
from models.settings import Augmentation
from models.store import LABEL, PIXELS

# What a process keeps of its shard: all of it, or as much as it shuffles at a time.
MEMORY_BYTES = 32 * 1024 * 1024


class ShardDataModule(DataModule):
    """A rank's share of the rows, one byte a pixel: in memory where it fits in 32 MB, streamed where it does not.

    Horovod's own module unbatches and rebatches row by row; here a batch is one gather from an array. A stream reads
    row groups in another order every time and mixes their rows among 32 MB of them, so that a process needs as much
    memory for a million pictures as for a thousand.

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
        # Another order and other changes on every rank.
        seed = self.seed * self.shard_count + self.cur_shard
        batches = self._rows(self.train_dir, self.train_batch_size, seed)
        seeds = tf.data.Dataset.random(seed=seed).batch(2)
        changes = self.augmentation != Augmentation()

        def change(rows: tuple[tf.Tensor, tf.Tensor], seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            x, y = rows
            return (augment(x, self.shape, self.augmentation, seed) if changes else x), tf.one_hot(y, self.classes)

        return _as_written(tf.data.Dataset.zip((batches, seeds)).map(change).prefetch(2))

    def val_data(self) -> tf.data.Dataset:
        """The shard's validation rows, in order, over and over."""
        batches = self._rows(self.val_dir, self.val_batch_size, None)
        return _as_written(batches.map(lambda x, y: (x, tf.one_hot(y, self.classes))).prefetch(2))

    def _rows(self, path: str | list[str], batch_size: int, seed: int | None) -> tf.data.Dataset:
        """Batches without end of pixels and class numbers; mixed where there is a seed."""
        shard, size = [], 0
        with self._reader(path, None) as reader:
            for pixels, labels in _chunks(reader):
                shard.append((pixels, labels))
                size += pixels.nbytes
                if size > MEMORY_BYTES:
                    width = pixels.shape[1]
                    del shard
                    return self._stream(path, batch_size, seed, width)
        pixels, labels = (tf.constant(np.concatenate(part)) for part in zip(*shard, strict=True))
        rows = tf.data.Dataset.range(len(labels))
        if seed is not None:
            rows = rows.shuffle(len(labels), seed=seed)
            rows = rows.repeat().batch(batch_size)
        else:
            rows = rows.batch(batch_size).repeat()
        return rows.map(lambda places: (tf.gather(pixels, places), tf.gather(labels, places)))

    def _stream(self, path: str | list[str], batch_size: int, seed: int | None, width: int) -> tf.data.Dataset:
        def chunks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            # a training reads on and on; validation rows come once, and then again in the same order
            for turn in itertools.count() if seed is not None else (None,):
                # another order each time; Petastorm takes 0 for no seed at all
                order = None if turn is None else 1 + zlib.crc32(f"{seed} {turn}".encode()) % (2**31 - 1)
                with self._reader(path, order) as reader:
                    yield from _chunks(reader)

        kinds = (tf.TensorSpec((None, width), tf.uint8), tf.TensorSpec((None,), tf.int32))
        rows = tf.data.Dataset.from_generator(chunks, output_signature=kinds).unbatch()
        if seed is not None:
            return rows.shuffle(MEMORY_BYTES // width, seed=seed).batch(batch_size)
        return rows.batch(batch_size).repeat()

    def _reader(self, path: str | list[str], seed: int | None) -> Reader:
        # not make_batch_reader, which takes the path for an encoded URL: a # in it would be its end
        first = path if isinstance(path, str) else path[0]
        if first.startswith("file:"):
            system = pyarrow.localfs
            place = _local(path) if isinstance(path, str) else [_local(file) for file in path]
        else:
            system, place = get_filesystem_and_path_or_paths(path, storage_options=self.storage_options)
        return Reader(
            system,
            place,
            worker_class=ArrowReaderWorker,
            is_batched_reader=True,
            schema_fields=[PIXELS, LABEL],
            num_epochs=1,
            cur_shard=self.cur_shard,
            shard_count=self.shard_count,
            shuffle_row_groups=seed is not None,
            seed=seed,
            # in this thread, which keeps one order; Petastorm 0.13's pool of threads may end before its last pieces
            reader_pool=DummyPool(),
        )


def _local(uri: str) -> str:
    """As :func:`preprocessing.storage.local_path`, which would bring Spark into every process."""
    return "/" + uri.removeprefix("file:").lstrip("/")


def _as_written(data: tf.data.Dataset) -> tf.data.Dataset:
    """Without the thread that tunes what is left to it: nothing is, and a process would wait for it at its end, up to a
    minute."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def _chunks(reader: Reader) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pixels ``uint8`` ``(rows, width)`` and class numbers ``int32`` of each row group."""
    for batch in reader:
        labels = getattr(batch, LABEL).astype(np.int32)
        yield np.frombuffer(b"".join(getattr(batch, PIXELS)), dtype=np.uint8).reshape(len(labels), -1), labels


def data_module(shape: tuple[int, int, int], classes: int, augmentation: Augmentation) -> Callable[..., DataModule]:
    """What ``KerasEstimator(data_module=)`` takes, for pictures of this shape."""
    return functools.partial(ShardDataModule, shape, classes, augmentation)
