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
from preprocessing.schema import PARSED_TABLE
from preprocessing.settings import Preprocessing
from preprocessing.sign_mnist import read_csv
from preprocessing.storage import Storage

# A row is told from others by its id: of a CSV file the file and line, of a picture its path, of Parquet its own.
INPUT_TABLE = T.StructType(
    [T.StructField("id", T.StringType()), *(PARSED_TABLE[name] for name in ("label", "pixels", "reason", "detail"))]
)

_CSV = (".csv", ".csv.gz")
_SHAPE = ("height", "width", "channels")


def read_input(
    spark: SparkSession, storage: Storage, path: str, settings: Preprocessing, classes: list[str]
) -> tuple[DataFrame, list[DataFrame]]:
    """Read a file or a folder, labelled or not; the names of its files say which kind it is.

    Args:
        spark: the session.
        storage: its file systems.
        path: of the file or folder, absolute.
        settings: the size and colour that pictures are brought to.
        classes: names of classes beyond those that are known.

    Returns:
        The columns of ``INPUT_TABLE``, a row for each of the input's, usable or not; and what is kept of it in memory,
        to be let go.

    Raises:
        InputError: there is no such file or folder, it is empty, or its columns are others.
    """
    path = path.rstrip("/")
    if not storage.exists(path):
        raise InputError(f"{path}: no such file or folder")
    is_folder = storage.is_folder(path)
    names = [name for name in storage.children(path) if name[0] not in "._"] if is_folder else [path.rsplit("/", 1)[-1]]
    if not names:
        raise InputError(f"{path}: the folder is empty")
    if tables := [name for name in names if name.lower().endswith(_CSV)]:
        files = [f"{path}/{name}" for name in sorted(tables)] if is_folder else [path]
        read = [read_csv(spark, file, settings) for file in files]
        rows = functools.reduce(DataFrame.unionByName, [table for table, _ in read])
        return _with_id(rows, F.concat_ws(":", "file", "line")), [kept for _, kept in read]
    if any(name.endswith(".parquet") or "=" in name for name in names):
        return _read_parquet(spark, path, settings), []
    # decoded once, for those that can be used and for those that cannot
    rows = _with_id(read_pictures(spark, storage, path, settings, classes), F.col("file")).persist()
    return rows, [rows]


def _with_id(rows: DataFrame, name: Column) -> DataFrame:
    return rows.withColumn("id", name).select(INPUT_TABLE.names)


def _read_parquet(spark: SparkSession, path: str, settings: Preprocessing) -> DataFrame:
    table = spark.read.parquet(path)
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
