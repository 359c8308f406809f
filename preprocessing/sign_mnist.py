"""Sign-MNIST's two CSV files, packed or not, read by Spark: one row a line, each with its line number."""

import functools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from preprocessing.arrow import from_rows
from preprocessing.decoding import resize_pixels
from preprocessing.errors import InputError
from preprocessing.labels import LETTERS
from preprocessing.parsing import HEADER, SIDE, UNLABELLED_HEADER, ParsedLine, parse_clean, parse_line
from preprocessing.schema import PARSED_TABLE, TEST, TRAIN
from preprocessing.settings import Preprocessing
from preprocessing.similarity import describe, describe_one
from preprocessing.storage import Storage

FILES = {TRAIN: "sign_mnist_train.csv", TEST: "sign_mnist_test.csv"}

# monotonically_increasing_id: the partition above, the row within it below
_ROW_BITS = 33
# Counted, and of no use.
_BLANK = "blank"


def find_files(storage: Storage, folder: str) -> dict[str, str]:
    """The path of each split's file in the folder, packed or not.

    Raises:
        InputError: there is no such folder, or it lacks one of the files.
    """
    if not storage.is_folder(folder):
        raise InputError(f"{folder}: no such folder; --data takes one with {' and '.join(FILES.values())} (or .gz)")
    paths = {}
    for split, name in FILES.items():
        found = [path for path in (f"{folder}/{name}", f"{folder}/{name}.gz") if storage.exists(path)]
        if not found:
            raise InputError(f"{folder}: holds neither {name} nor {name}.gz")
        paths[split] = found[0]
    return paths


def has_sign_mnist(storage: Storage, folder: str) -> bool:
    """Whether one of Sign-MNIST's files is in the folder: otherwise it is one of photographs."""
    return any(storage.exists(f"{folder}/{name}{packed}") for name in FILES.values() for packed in ("", ".gz"))


def read_sign_mnist(
    spark: SparkSession, storage: Storage, source: str, folder: str, settings: Preprocessing
) -> tuple[DataFrame, list[DataFrame]]:
    """Read both files.

    Args:
        spark: the session.
        storage: its file systems.
        source: what the source is called.
        folder: where the files lie.
        settings: the size and colour that the pictures are brought to.

    Returns:
        The columns of ``PARSED_TABLE``; and what is kept of it in memory, to be let go.

    Raises:
        InputError: a file is missing, empty, cannot be unpacked, or has a header that is not Sign-MNIST's.
    """
    paths = find_files(storage, folder)
    with ThreadPoolExecutor() as pool:
        for checked in [pool.submit(_check_header, spark, path) for path in paths.values()]:
            checked.result()
        read = [pool.submit(_read_file, spark, paths[split], source, split, settings) for split in (TRAIN, TEST)]
        (train, kept_train), (test, kept_test) = (file.result() for file in read)
    return train.unionByName(test), [kept_train, kept_test]


def read_csv(spark: SparkSession, path: str, settings: Preprocessing) -> tuple[DataFrame, DataFrame]:
    """Read one file in Sign-MNIST's form, whatever its name, with labels or without.

    Returns:
        The columns of ``PARSED_TABLE``; and what is kept of it in memory, to be let go.

    Raises:
        InputError: the file is empty, cannot be unpacked, or has another header.
    """
    labelled = _check_header(spark, path, (HEADER, UNLABELLED_HEADER)) == HEADER
    return _read_file(spark, path, path.rsplit("/", 1)[-1], None, settings, labelled)


def _check_header(spark: SparkSession, path: str, allowed: tuple[str, ...] = (HEADER,)) -> str:
    try:
        first = spark.read.text(path).head()
    except (Py4JJavaError, PySparkException) as error:
        raise _unreadable(path, error) from error
    if first is None:
        raise InputError(f"{path}: the file is empty")
    line = first[0].lstrip("\ufeff").strip()
    header = line.replace('"', "").replace(" ", "")
    if header not in allowed:
        shown = line if len(line) <= 60 else f"{line[:60]}…"
        without = ", with or without the label" if UNLABELLED_HEADER in allowed else ""
        raise InputError(f"{path}:1: the header is {shown!r}, not Sign-MNIST's 'label,pixel1,…,pixel784'{without}")
    return header


def _read_file(
    spark: SparkSession, path: str, source: str, split: str | None, settings: Preprocessing, labelled: bool = True
) -> tuple[DataFrame, DataFrame]:
    # the place of a line at first, not its number: how many there are before a partition is known when all are parsed
    lines = spark.read.text(path).select(F.monotonically_increasing_id().alias("line"), "value")
    parse = functools.partial(_parse_batches, settings, source, path.rsplit("/", 1)[-1], split, labelled)
    places = (
        lines.where(F.col("line") > 0)  # the header
        .select("line", F.concat("value", F.lit("\n")).alias("text"))
        .mapInArrow(parse, PARSED_TABLE)
        .persist()  # the partitions that are counted have to be the ones that are numbered
    )
    partition = F.shiftright("line", _ROW_BITS).cast("int")
    row = F.col("line").bitwiseAND((1 << _ROW_BITS) - 1)
    try:
        counted = places.groupBy(partition.alias("partition")).agg(F.max(row).alias("last")).collect()
    except (Py4JJavaError, PySparkException) as error:
        places.unpersist()
        raise _unreadable(path, error) from error
    counts = {0: 1} | {found["partition"]: found["last"] + 1 for found in counted}
    offsets, total = [], 0
    for index in range(max(counts) + 1):
        offsets.append(total)
        total += counts.get(index, 0)
    number = row + F.element_at(F.lit(offsets), partition + 1) + 1
    rows = places.where(F.col("reason").isNull() | (F.col("reason") != _BLANK)).withColumn("line", number)
    return rows, places


def _parse_batches(
    settings: Preprocessing,
    source: str,
    file: str,
    split: str | None,
    labelled: bool,
    batches: Iterable[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    schema = to_arrow_schema(PARSED_TABLE)
    constants = {"source": source, "file": file, "split": split}
    for batch in batches:
        rows, text = batch.num_rows, batch.column("text")
        if clean := parse_clean(text, labelled):
            columns = _columns(*clean, settings)
        else:
            parsed = [
                parse_line(line.removesuffix("\n"), labelled) if line.strip(" \n") else ParsedLine(reason=_BLANK)
                for line in text.to_pylist()
            ]
            pixels = [
                None if line.pixels is None else resize_pixels(line.pixels, (SIDE, SIDE, 1), settings)
                for line in parsed
            ]
            columns = {
                "label": [line.label for line in parsed],
                "pixels": pixels,
                "reason": [line.reason for line in parsed],
                "detail": [line.detail for line in parsed],
                "descriptor": [describe_one(content, settings.shape) for content in pixels],
            }
        columns["line"] = batch.column("line")
        arrays = []
        for name, kind in zip(schema.names, schema.types, strict=True):
            if name in columns:
                found = columns[name]
                arrays.append(found if isinstance(found, pa.Array) else pa.array(found, kind))
            elif name in constants:
                arrays.append(pa.array([constants[name]], kind).take(pa.nulls(rows, pa.int32()).fill_null(0)))
            else:
                arrays.append(pa.nulls(rows, kind))
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _columns(labels: np.ndarray | None, pixels: np.ndarray, settings: Preprocessing) -> dict[str, Any]:
    """The columns of rows without a fault."""
    shape = (SIDE, SIDE, 1)
    if settings.shape != shape or settings.short_side != SIDE:
        resized = b"".join(resize_pixels(row.tobytes(), shape, settings) for row in pixels)
        pixels = np.frombuffer(resized, dtype=np.uint8).reshape(len(pixels), -1)
    described = describe(pixels.reshape(-1, *settings.shape))
    columns = {"pixels": from_rows(pixels), "descriptor": from_rows(described)}
    return columns if labels is None else columns | {"label": np.array(LETTERS)[labels]}


def _unreadable(path: str, error: Exception) -> InputError:
    text = str(error)
    if any(sign in text for sign in ("PythonException", "Python worker exited")):
        raise error  # the parser's, and not the file's fault
    if path.endswith(".gz") and any(sign in text for sign in ("EOFException", "ZipException", "gzip")):
        return InputError(f"{path}: cannot be unpacked, the file is cut off or corrupt: fetch it again")
    cause = next((line.strip() for line in text.splitlines() if "Caused by" in line), text.strip().splitlines()[0])
    return InputError(f"{path}: cannot be read: {cause}")
