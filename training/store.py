"""The Petastorm store: training and validation rows as Parquet files that Horovod's processes read."""

import math
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq
from horovod.spark.common.store import FilesystemStore, Store
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from preprocessing.features_store import PART_FILE_BYTES, write_part_files
from preprocessing.file_systems import PyarrowFileSystem, is_url, open_url, scheme_of
from preprocessing.schema import TRAIN, VALIDATION
from preprocessing.steps import step
from preprocessing.storage import Storage
from training.frozen_outputs import FrozenOutputs

PIXELS, LABEL = "pixels", "label_index"


class TrainingStore(FilesystemStore):  # type: ignore[misc]
    """A store on any of the file systems of :func:`preprocessing.file_systems.open_url`."""

    def _get_fs_and_protocol(self) -> tuple[Any, str]:
        return open_url(self.prefix_path)[0], scheme_of(self.prefix_path)

    def get_localized_path(self, path: str) -> str:
        return open_url(path)[1] if is_url(path) else path

    def get_parquet_dataset(self, path: str) -> pq.ParquetDataset:
        # Horovod 0.28 and Petastorm 0.13 need the legacy dataset. pyarrow 14 opens the new kind by default, which makes
        # KerasEstimator fail (horovod issue 3829).
        system, local = open_url(path)
        return pq.ParquetDataset(local, filesystem=PyarrowFileSystem(system), use_legacy_dataset=True)

    def get_data_metadata_path(self, path: str) -> str:
        # In the folder of the training, because other jobs may read the rows' folder, too.
        return open_url(f"{self.prefix_path}/{path.rsplit('/', 1)[-1]}_metadata.pkl")[1]

    def get_checkpoint_filename(self) -> str:
        # The extension selects HDF5. Without it Keras writes a SavedModel, which takes seconds per epoch.
        return "checkpoint.h5"


# A process reads whole part files. With this many per process, the rows are still split almost equally when fewer
# processes continue after a failure.
PART_FILES_PER_PROCESS = 6


def training_store(folder: str, paths: dict[str, str]) -> Store:
    """Create the store of one training.

    Args:
        folder: absolute path of a folder for Horovod's own files; all executors must be able to read and write it.
        paths: paths of the training and validation rows, see :func:`write_rows`.
    """
    return TrainingStore(folder, train_path=paths[TRAIN], val_path=paths[VALIDATION], save_runs=False)


def write_rows(
    features: DataFrame,
    storage: Storage,
    folder: str,
    num_proc: int,
    sizes: dict[str, int],
    frozen: FrozenOutputs | None = None,
) -> dict[str, str]:
    """Write the training and validation rows for Horovod, unless they exist already.

    A row has one byte per pixel and a label: 784 + 4 bytes for a 28x28 gray picture, compared with 6,272 bytes for the
    assembled vector of doubles. The part files differ by a few rows at most, and their rows are shuffled.

    Args:
        features: rows with the columns ``pixels``, ``label_index`` and ``split``.
        storage: the session's file systems.
        folder: absolute path for the rows; all executors must be able to read it.
        num_proc: number of Horovod processes.
        sizes: number of bytes of each split's pixels.
        frozen: the frozen layers of the network, whose outputs are written instead of the pixels.

    Returns:
        The path of each split's rows.
    """
    paths = {split: f"{folder}/{split}" for split in (TRAIN, VALIDATION)}
    for split, path in paths.items():
        if storage.exists(f"{path}/_SUCCESS") and has_enough_part_files(storage, path, num_proc):
            continue
        rows = features.where(F.col("split") == split) if frozen is None else frozen.of(features, split)
        rows = rows.select(PIXELS, F.col(LABEL).cast("int").alias(LABEL))
        # A multiple of num_proc, so that each process reads the same number of part files.
        part_files = num_proc * max(PART_FILES_PER_PROCESS, math.ceil(sizes[split] / PART_FILE_BYTES / num_proc))
        with step(rows.sparkSession, "writing the features" if frozen is None else "computing the frozen layers"):
            write_part_files(rows, path, part_files)
    return paths


@dataclass(frozen=True)
class Part:
    """The rows of one training: the paths (a folder or a list of files) and the number of rows of each split."""

    paths: dict[str, str | list[str]]
    rows: dict[str, int]


def write_folds(features: DataFrame, storage: Storage, folder: str, folds: int, picture_bytes: int) -> list[Part]:
    """Write each fold's rows once for cross-validation.

    Args:
        features: rows with the columns ``pixels``, ``label_index`` and ``fold``.
        storage: the session's file systems.
        folder: absolute path for the rows; all executors must be able to read it.
        folds: number of folds.
        picture_bytes: number of bytes of a picture's pixels.

    Returns:
        One training per fold, with this fold's rows for validation and all others for training.
    """
    rows = features.select("fold", PIXELS, F.col(LABEL).cast("int").alias(LABEL)).persist()
    counts = {row["fold"]: row["count"] for row in rows.groupBy("fold").count().collect()}
    files: list[list[str]] = []
    for fold in range(folds):
        path = f"{folder}/fold-{fold}"
        part_files = max(PART_FILES_PER_PROCESS, math.ceil(counts[fold] * picture_bytes / PART_FILE_BYTES))
        with step(rows.sparkSession, "writing the folds"):
            write_part_files(rows.where(F.col("fold") == fold).drop("fold"), path, part_files)
        files.append([f"{path}/{name}" for name in storage.children(path) if name.startswith("part-")])
    rows.unpersist()
    return [
        Part(
            {
                TRAIN: [
                    file for other_fold in range(folds) if other_fold != fold for file in sorted(files[other_fold])
                ],
                VALIDATION: sorted(files[fold]),
            },
            {TRAIN: sum(counts.values()) - counts[fold], VALIDATION: counts[fold]},
        )
        for fold in range(folds)
    ]


def has_enough_part_files(storage: Storage, path: str, num_proc: int) -> bool:
    """Return whether the numbers of part files that the processes read differ by one in six at most."""
    part_files = sum(name.startswith("part-") for name in storage.children(path))
    return part_files % num_proc == 0 or part_files >= PART_FILES_PER_PROCESS * num_proc


def balanced(features: DataFrame, sources: dict[str, int]) -> DataFrame:
    """Repeat the training rows of smaller sources until each source has as many as the largest one.

    Args:
        features: rows with the columns ``id``, ``source`` and ``split`` and any others.
        sources: number of training rows of each source.
    """
    largest = max(sources.values())
    repetitions = F.lit(1.0)
    for name, rows in sources.items():
        repetitions = F.when(F.col("source") == name, largest / rows).otherwise(repetitions)
    # A non-integer number of repetitions is rounded up for a pseudo-random fraction of the rows.
    fraction = F.pmod(F.xxhash64(F.lit("balance"), "id"), F.lit(1000)) / 1000
    copies = F.when(
        F.col("split") == TRAIN, F.floor(repetitions) + (fraction < repetitions - F.floor(repetitions)).cast("int")
    ).otherwise(1)
    return features.withColumn("copy", F.explode(F.sequence(F.lit(1), copies.cast("int")))).drop("copy")
