"""Inputs for prediction: CSV files in Sign-MNIST's format, pictures, or an image table in Parquet."""

import functools
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from preprocessing.data_settings import Preprocessing
from preprocessing.decoding import resize_pixels
from preprocessing.errors import InputError
from preprocessing.folders import read_pictures
from preprocessing.listing import CSV, PARQUET, list_files
from preprocessing.rows import ReadRows
from preprocessing.schema import PARSED_TABLE
from preprocessing.sign_mnist import open_csv, read_csv
from preprocessing.storage import Storage, reader

# The id is the file and line for a CSV file, the path for a picture, and the table's own id for Parquet.
INPUT_TABLE = T.StructType(
    [T.StructField("id", T.StringType()), *(PARSED_TABLE[name] for name in ("label", "pixels", "reason", "detail"))]
)

_SHAPE = ("height", "width", "channels")


def read_input(
    spark: SparkSession, storage: Storage, path: str, work: str, settings: Preprocessing, class_names: list[str]
) -> ReadRows:
    """Read a file or a folder, labeled or not; the kind of input follows from the file names.

    Args:
        spark: Spark session.
        storage: file systems of the session.
        path: absolute path of the file or folder.
        work: absolute path of a folder that every executor sees and that exists as long as the job.
        settings: size and color that pictures are converted to.
        class_names: names of classes beyond the built-in ones.

    Returns:
        The columns of ``INPUT_TABLE``, one row per row of the input, usable or not.

    Raises:
        InputError: The file or folder does not exist, is empty, contains files of several kinds, or has the wrong
            columns.
    """
    if not storage.exists(path):
        raise InputError(f"{path}: no such file or folder")
    listing = list_files(storage, path, work)
    if not listing.count:
        raise InputError(f"{path}: the folder is empty")
    notes = [f"{listing.ignored:,} hidden or system files are left out"] if listing.ignored else []
    if len(listing.kinds) > 1:
        several = " and ".join(f"{kind} ({first})" for kind, first in sorted(listing.kinds.items()))
        raise InputError(f"{path}: contains {several}; only one kind can be predicted at a time: move the others away")
    [kind] = listing.kinds
    if kind == CSV:
        files = [
            read_csv(spark, open_csv(storage, listing, name, work), settings) for name in sorted(listing.csv_files)
        ]
        rows = functools.reduce(DataFrame.unionByName, [file.table for file in files])
        count, kept = sum(file.count for file in files), [table for file in files for table in file.kept]
        return ReadRows(_with_id(rows, F.concat_ws(":", "file", "line")), count, kept, notes)
    if kind == PARQUET:
        table = reader(spark).parquet(path)
        if (count := len(table.inputFiles())) < listing.count:
            raise InputError(
                f"{path}: Spark reads only {count:,} of the {listing.count:,} Parquet files: move those in subfolders"
                " next to the others, and rename those that begin with an underscore"
            )
        return ReadRows(_read_parquet(table, path, settings), table.count(), [], notes)
    # Persisted, so that pictures are decoded once, not once for the valid rows and once for the others.
    rows = _with_id(read_pictures(spark, listing, settings, class_names), F.col("file")).persist()
    return ReadRows(rows, listing.count, [rows], notes)


def _with_id(rows: DataFrame, row_id: Column) -> DataFrame:
    return rows.withColumn("id", row_id).select(INPUT_TABLE.names)


def _read_parquet(table: DataFrame, path: str, settings: Preprocessing) -> DataFrame:
    missing = [name for name in ("id", "pixels", *_SHAPE) if name not in table.columns]
    if missing:
        raise InputError(
            f"{path}: has no column {', '.join(missing)}; an image table has the columns id, pixels (one byte per"
            " channel and pixel), height, width, channels and, optionally, label"
        )
    label = F.col("label") if "label" in table.columns else F.lit(None)
    columns = [
        F.col("id").cast("string"),
        label.cast("string").alias("label"),
        F.col("pixels").cast("binary"),
        F.array(*_SHAPE).cast("array<int>").alias("shape"),
    ]
    return table.select(columns).mapInPandas(functools.partial(_check_rows, settings), INPUT_TABLE)


def _check_rows(settings: Preprocessing, batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    for batch in batches:
        rows = [
            (row_id, label, *_resized(pixels, shape, settings))
            for row_id, label, pixels, shape in batch.itertuples(index=False)
        ]
        yield pd.DataFrame(rows, columns=INPUT_TABLE.names)


def _resized(
    pixels: bytes | None, shape: np.ndarray, settings: Preprocessing
) -> tuple[bytes | None, str | None, str | None]:
    """The pixels in the settings' size, or the reason and details why they are invalid."""
    if pixels is None or any(length is None or np.isnan(length) for length in shape):
        return None, "missing pixels", "pixels, height, width or channels are null"
    height, width, channels = (int(length) for length in shape)
    if channels not in (1, 3) or min(height, width) < 1 or len(pixels) != height * width * channels:
        return None, "wrong number of pixels", f"{len(pixels):,} bytes for {height} x {width} x {channels}"
    return resize_pixels(pixels, (height, width, channels), settings), None, None
