"""Image tables in Parquet, with the columns id, pixels, height, width, channels and, optionally, label."""

import functools
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from preprocessing.data_settings import Preprocessing
from preprocessing.decoding import Decoded, decode_array
from preprocessing.errors import InputError
from preprocessing.listing import Listing
from preprocessing.read_rows import ReadContext, ReadRows
from preprocessing.schema import INPUT_TABLE
from preprocessing.storage import reader

_SHAPE = ("height", "width", "channels")


def read_image_table(context: ReadContext, listing: Listing) -> ReadRows:
    """Read a file or a folder.

    Raises:
        InputError: A column is missing, or Spark does not read some of the files.
    """
    path = listing.path
    table = reader(context.spark).parquet(path)
    if (count := len(table.inputFiles())) < listing.count:
        raise InputError(
            f"{path}: Spark reads only {count:,} of the {listing.count:,} Parquet files: move those in subfolders"
            " next to the others, and rename those that begin with an underscore"
        )
    return ReadRows(_read_parquet(table, path, context.settings), table.count(), [])


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
        rows = []
        for row_id, label, pixels, shape in batch.itertuples(index=False):
            picture = _decode_row(pixels, shape, settings)
            rows.append((row_id, label, picture.pixels, picture.reason, picture.detail, *picture.hand_row))
        yield pd.DataFrame(rows, columns=INPUT_TABLE.names)


def _decode_row(pixels: bytes | None, shape: np.ndarray, settings: Preprocessing) -> Decoded:
    if pixels is None or any(length is None or np.isnan(length) for length in shape):
        return Decoded(reason="missing pixels", detail="pixels, height, width or channels are null")
    height, width, channels = (int(length) for length in shape)
    if channels not in (1, 3) or min(height, width) < 1 or len(pixels) != height * width * channels:
        detail = f"{len(pixels):,} bytes for {height} x {width} x {channels}"
        return Decoded(reason="wrong number of pixels", detail=detail)
    return decode_array(pixels, (height, width, channels), settings)
