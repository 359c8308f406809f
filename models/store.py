"""The Petastorm store: where training and validation rows lie for Horovod's processes, as Parquet."""

import math
from dataclasses import dataclass

import pyarrow.parquet as pq
from horovod.spark.common.store import FilesystemStore, HDFSStore, Store
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from preprocessing.features_store import PIECE_BYTES, write_pieces
from preprocessing.schema import TRAIN, VALIDATION
from preprocessing.storage import Storage

PIXELS, LABEL = "pixels", "label_index"


class _StoreOfOurs:
    """What this project needs otherwise than Horovod's stores have it."""

    def get_parquet_dataset(self, path: str) -> pq.ParquetDataset:
        # the legacy dataset, which Horovod 0.28 and Petastorm 0.13 understand: pyarrow 14 opens another kind by
        # default, and KerasEstimator dies of it (horovod issue 3829)
        return pq.ParquetDataset(self.get_localized_path(path), filesystem=self.fs, use_legacy_dataset=True)  # type: ignore[attr-defined]

    def get_data_metadata_path(self, path: str) -> str:
        # beside the training, and not beside rows that other jobs read, too
        return f"{self.prefix_path}/{path.rsplit('/', 1)[-1]}_metadata.pkl"  # type: ignore[attr-defined]

    def get_checkpoint_filename(self) -> str:
        # HDF5: without the ending Keras writes a SavedModel, which takes seconds an epoch
        return "checkpoint.h5"


class SharedFolderStore(_StoreOfOurs, FilesystemStore):  # type: ignore[misc]
    """A store on anything that fsspec opens: a local or shared folder, S3, DBFS's mount."""


class HadoopStore(_StoreOfOurs, HDFSStore):  # type: ignore[misc]
    """A store on HDFS."""


# A process reads whole pieces. So many for each process: fewer processes, after a loss, have equal shares too.
PIECES_A_PROCESS = 6


def training_store(folder: str, paths: dict[str, str]) -> Store:
    """The store of a training.

    Args:
        folder: for what Horovod keeps, absolute; every executor has to see it.
        paths: of the training and the validation rows, see :func:`write_rows`.
    """
    kind = HadoopStore if HDFSStore.matches(folder) else SharedFolderStore
    return kind(folder, train_path=paths[TRAIN], val_path=paths[VALIDATION], save_runs=False)


def write_rows(
    features: DataFrame, storage: Storage, folder: str, num_proc: int, sizes: dict[str, int]
) -> dict[str, str]:
    """Write the rows that Horovod trains on, if they are not there already.

    A row is its pixels, a byte each, and its label: 784 + 4 bytes for a 28x28 grey picture, where the assembled vector
    of doubles would be 6,272. The sizes of the pieces differ by a few rows at most, and their rows are mixed.

    Args:
        features: the columns ``pixels``, ``label_index`` and ``split``.
        storage: the session's file systems.
        folder: where the rows lie, absolute; every executor has to see it.
        num_proc: Horovod processes.
        sizes: bytes of each split's pixels.

    Returns:
        The path of each split's rows.
    """
    paths = {split: f"{folder}/{split}" for split in (TRAIN, VALIDATION)}
    for split, target in paths.items():
        if storage.exists(f"{target}/_SUCCESS") and can_share(storage, target, num_proc):
            continue
        rows = features.where(F.col("split") == split).select(PIXELS, F.col(LABEL).cast("int").alias(LABEL))
        # as many for each process
        pieces = num_proc * max(PIECES_A_PROCESS, math.ceil(sizes[split] / PIECE_BYTES / num_proc))
        write_pieces(rows, target, pieces)
    return paths


@dataclass(frozen=True)
class Part:
    """The rows of one training: where they lie, a folder or files, and how many they are, by split."""

    paths: dict[str, str | list[str]]
    rows: dict[str, int]


def write_folds(dealt: DataFrame, storage: Storage, folder: str, folds: int, picture_bytes: int) -> list[Part]:
    """Write each fold's rows once, and give the trainings in which each of them validates.

    Args:
        dealt: the columns ``pixels``, ``label_index`` and ``fold``.
        storage: the session's file systems.
        folder: where the rows lie, absolute; every executor has to see it.
        folds: how many.
        picture_bytes: of a picture's pixels.
    """
    rows = dealt.select("fold", PIXELS, F.col(LABEL).cast("int").alias(LABEL)).persist()
    counts = {row["fold"]: row["count"] for row in rows.groupBy("fold").count().collect()}
    files: list[list[str]] = []
    for fold in range(folds):
        path = f"{folder}/fold-{fold}"
        pieces = max(PIECES_A_PROCESS, math.ceil(counts[fold] * picture_bytes / PIECE_BYTES))
        write_pieces(rows.where(F.col("fold") == fold).drop("fold"), path, pieces)
        files.append([f"{path}/{name}" for name in storage.children(path) if name.startswith("part-")])
    rows.unpersist()
    return [
        Part(
            {
                TRAIN: [file for other in range(folds) if other != fold for file in sorted(files[other])],
                VALIDATION: sorted(files[fold]),
            },
            {TRAIN: sum(counts.values()) - counts[fold], VALIDATION: counts[fold]},
        )
        for fold in range(folds)
    ]


def can_share(storage: Storage, path: str, num_proc: int) -> bool:
    """Whether there are pieces enough for so many processes, in shares that differ by a piece in six at most."""
    pieces = sum(name.startswith("part-") for name in storage.children(path))
    return pieces % num_proc == 0 or pieces >= PIECES_A_PROCESS * num_proc


def balanced(features: DataFrame, sources: dict[str, int]) -> DataFrame:
    """Repeat the training rows of smaller sources until all have as many as the largest.

    Args:
        features: the columns ``id``, ``source`` and ``split`` among others.
        sources: training rows of each.
    """
    largest = max(sources.values())
    times = F.lit(1.0)
    for name, rows in sources.items():
        times = F.when(F.col("source") == name, largest / rows).otherwise(times)
    # what is left of a whole number falls to a share of the rows
    share = F.pmod(F.xxhash64(F.lit("balance"), "id"), F.lit(1000)) / 1000
    copies = F.when(F.col("split") == TRAIN, F.floor(times) + (share < times - F.floor(times)).cast("int")).otherwise(1)
    return features.withColumn("copy", F.explode(F.sequence(F.lit(1), copies.cast("int")))).drop("copy")
