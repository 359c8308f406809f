"""The Petastorm store: where training and validation rows lie for Horovod's processes, as Parquet."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow.parquet as pq
from horovod.spark.common.store import FilesystemStore, HDFSStore, Store
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from preprocessing.schema import TRAIN, VALIDATION
from preprocessing.storage import Storage

PIXELS, LABEL = "pixels", "label_index"


class _StoreOfOurs:
    """What this project needs otherwise than Horovod's stores have it."""

    def get_parquet_dataset(self, path: str) -> pq.ParquetDataset:
        # the legacy dataset, which Horovod 0.28 and Petastorm 0.13 understand: pyarrow 14 opens another kind by
        # default, and KerasEstimator dies of it (horovod issue 3829)
        return pq.ParquetDataset(self.get_localized_path(path), filesystem=self.fs, use_legacy_dataset=True)  # type: ignore[attr-defined]

    def get_checkpoint_filename(self) -> str:
        # HDF5: without the ending Keras writes a SavedModel, which takes seconds an epoch
        return "checkpoint.h5"


class SharedFolderStore(_StoreOfOurs, FilesystemStore):  # type: ignore[misc]
    """A store on anything that fsspec opens: a local or shared folder, S3, DBFS's mount."""


class HadoopStore(_StoreOfOurs, HDFSStore):  # type: ignore[misc]
    """A store on HDFS."""


@contextmanager
def training_store(features: DataFrame, storage: Storage, folder: str, num_proc: int) -> Iterator[Store]:
    """Write the rows that Horovod trains on, and delete them afterwards.

    A row is its pixels, a byte each, and its label: 784 + 4 bytes for a 28x28 grey picture, where the assembled vector
    of doubles would be 6,272. ``num_proc`` processes get a file each, whose sizes differ by a few rows at most.

    Args:
        features: the columns ``pixels``, ``label_index`` and ``split``.
        storage: the session's file systems.
        folder: where the store lies; every executor has to see it.
        num_proc: Horovod processes.
    """
    path = f"{storage.absolute(folder)}/{uuid.uuid4().hex}"
    paths = {split: f"{path}/{split}" for split in (TRAIN, VALIDATION)}
    try:
        for split, target in paths.items():
            rows = features.where(F.col("split") == split).select(PIXELS, F.col(LABEL).cast("int").alias(LABEL))
            rows.repartition(num_proc).write.parquet(target)
        kind = HadoopStore if HDFSStore.matches(path) else SharedFolderStore
        yield kind(path, train_path=paths[TRAIN], val_path=paths[VALIDATION], save_runs=False)
    finally:
        storage.delete(path)
        storage.delete_empty(path.rsplit("/", 1)[0])
