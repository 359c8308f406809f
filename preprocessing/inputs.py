"""What a trained model is asked about: CSV files in Sign-MNIST's form, pictures, or an image table in Parquet."""

import functools
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from preprocessing.decoding import resize_pixels
from preprocessing.errors import InputError
from preprocessing.folders import read_pictures
from preprocessing.listing import CSV, PARQUET, list_files
from preprocessing.rows import ReadRows
from preprocessing.schema import PARSED_TABLE
from preprocessing.settings import Preprocessing
from preprocessing.sign_mnist import open_csv, read_csv
from preprocessing.storage import Storage, reader

# A row is told from others by its id: of a CSV file the file and line, of a picture its path, of Parquet its own.
INPUT_TABLE = T.StructType(
    [T.StructField("id", T.StringType()), *(PARSED_TABLE[name] for name in ("label", "pixels", "reason", "detail"))]
)

_SHAPE = ("height", "width", "channels")


def read_input(
    spark: SparkSession, storage: Storage, path: str, work: str, settings: Preprocessing, classes: list[str]
) -> ReadRows:
    """Read a file or a folder, labelled or not; the names of its files say which kind it is.

    Args:
        spark: the session.
        storage: its file systems.
        path: of the file or folder, absolute.
        work: a folder that every executor sees and that stays as long as the job, absolute.
        settings: the size and colour that pictures are brought to.
        classes: names of classes beyond those that are known.

    Returns:
        The columns of ``INPUT_TABLE``, a row for each of the input's, usable or not.

    Raises:
        InputError: there is no such file or folder, it is empty, holds files of several kinds, or its columns are
            others.
    """
    if not storage.exists(path):
        raise InputError(f"{path}: no such file or folder")
    listing = list_files(storage, path, work)
    if not listing.count:
        raise InputError(f"{path}: the folder is empty")
    notes = [f"{listing.ignored:,} hidden or system files are left out"] if listing.ignored else []
    if len(listing.kinds) > 1:
        several = " and ".join(f"{kind} ({first})" for kind, first in sorted(listing.kinds.items()))
        raise InputError(f"{path}: holds {several}; files of one kind are predicted at a time: move the others away")
    [kind] = listing.kinds
    if kind == CSV:
        read = [read_csv(spark, open_csv(storage, listing, name, work), settings) for name in sorted(listing.csv_files)]
        rows = functools.reduce(DataFrame.unionByName, [file.table for file in read])
        kept = [table for file in read for table in file.kept]
        return ReadRows(_with_id(rows, F.concat_ws(":", "file", "line")), sum(file.count for file in read), kept, notes)
    if kind == PARQUET:
        table = reader(spark).parquet(path)
        if (seen := len(table.inputFiles())) < listing.count:
            raise InputError(
                f"{path}: Spark reads {seen:,} of its {listing.count:,} Parquet files: put those in folders of it"
                " beside the others, and rename those that begin with an underscore"
            )
        return ReadRows(_read_parquet(table, path, settings), table.count(), [], notes)
    # decoded once, for those that can be used and for those that cannot
    rows = _with_id(read_pictures(spark, listing, settings, classes), F.col("file")).persist()
    return ReadRows(rows, listing.count, [rows], notes)


def _with_id(rows: DataFrame, name: Column) -> DataFrame:
    return rows.withColumn("id", name).select(INPUT_TABLE.names)


def _read_parquet(table: DataFrame, path: str, settings: Preprocessing) -> DataFrame:
    missing = [name for name in ("id", "pixels", *_SHAPE) if name not in table.columns]
    if missing:
        raise InputError(
            f"{path}: has no column {', '.join(missing)}; an image table has id, pixels (a byte a channel a pixel),"
            " height, width, channels, and label where it is known"
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
            (name, label, *_pixels(pixels, shape, settings))
            for name, label, pixels, shape in batch.itertuples(index=False)
        ]
        yield pd.DataFrame(rows, columns=INPUT_TABLE.names)


def _pixels(
    pixels: bytes | None, shape: np.ndarray, settings: Preprocessing
) -> tuple[bytes | None, str | None, str | None]:
    """Those of the settings' size, or why there are none."""
    if pixels is None or any(length is None or np.isnan(length) for length in shape):
        return None, "missing pixels", "pixels, height, width or channels are null"
    height, width, channels = (int(length) for length in shape)
    if channels not in (1, 3) or min(height, width) < 1 or len(pixels) != height * width * channels:
        return None, "wrong number of pixels", f"{len(pixels):,} bytes for {height} x {width} x {channels}"
    return resize_pixels(pixels, (height, width, channels), settings), None, None
