"""Sign-MNIST's two CSV files, packed or not, read by Spark: one row a line, each with its line number."""

from collections.abc import Iterable, Iterator

import pandas as pd
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from preprocessing.errors import InputError
from preprocessing.parsing import HEADER, parse_lines
from preprocessing.schema import TEST, TRAIN
from preprocessing.storage import Storage

FILES = {TRAIN: "sign_mnist_train.csv", TEST: "sign_mnist_test.csv"}

# monotonically_increasing_id: the partition above, the row within it below
_ROW_BITS = 33

PARSED = T.StructType(
    [
        T.StructField("line", T.LongType(), False),
        T.StructField("label", T.StringType()),
        T.StructField("pixels", T.BinaryType()),
        T.StructField("reason", T.StringType()),
        T.StructField("detail", T.StringType()),
    ]
)


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


def read_sign_mnist(spark: SparkSession, storage: Storage, folder: str) -> tuple[DataFrame, list[DataFrame]]:
    """Read both files.

    Returns:
        The columns of ``PARSED`` with ``source`` (the file's name) and ``split``; ``reason`` and ``detail`` are null
        where the line can be used, ``label`` and ``pixels`` where it cannot. And the kept text of the files, to be let
        go once the rows are computed: it is four times as large as they are.

    Raises:
        InputError: a file is missing, empty, cannot be unpacked, or has a header that is not Sign-MNIST's.
    """
    paths = find_files(storage, folder)
    for path in paths.values():
        _check_header(spark, path)
    (train, train_text), (test, test_text) = (_read_file(spark, path) for path in (paths[TRAIN], paths[TEST]))
    rows = train.withColumn("split", F.lit(TRAIN)).unionByName(test.withColumn("split", F.lit(TEST)))
    return rows, [train_text, test_text]


def _check_header(spark: SparkSession, path: str) -> None:
    try:
        first = spark.read.text(path).head()
    except (Py4JJavaError, PySparkException) as error:
        raise _unreadable(path, error) from error
    if first is None:
        raise InputError(f"{path}: the file is empty")
    header = first[0].lstrip("\ufeff").strip()
    if header.replace('"', "").replace(" ", "") != HEADER:
        shown = header if len(header) <= 60 else f"{header[:60]}…"
        raise InputError(f"{path}:1: the header is {shown!r}, not Sign-MNIST's 'label,pixel1,…,pixel784'")


def _read_file(spark: SparkSession, path: str) -> tuple[DataFrame, DataFrame]:
    lines = spark.read.text(path).select(F.monotonically_increasing_id().alias("position"), "value")
    # kept: the partitions that are counted have to be the ones that are numbered, and a .gz is unpacked once
    lines = lines.persist()
    partition = F.shiftright("position", _ROW_BITS).cast("int")
    try:
        counted = lines.groupBy(partition.alias("partition")).count().collect()
    except (Py4JJavaError, PySparkException) as error:
        lines.unpersist()
        raise _unreadable(path, error) from error
    counts = {row["partition"]: row["count"] for row in counted}
    offsets, total = [], 0
    for index in range(max(counts) + 1):
        offsets.append(total)
        total += counts.get(index, 0)
    row = F.col("position").bitwiseAND((1 << _ROW_BITS) - 1)
    offset = F.element_at(F.lit(offsets), partition + 1)
    rows = (
        lines.select((row + offset + 1).alias("line"), "value")
        .where((F.col("line") > 1) & (F.trim("value") != ""))
        .mapInPandas(_parse_batches, PARSED)
        .withColumn("source", F.lit(path.rsplit("/", 1)[-1]))
    )
    return rows, lines


def _parse_batches(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    for batch in batches:
        parsed = parse_lines(batch["value"].tolist())
        yield pd.DataFrame(
            {
                "line": batch["line"].to_numpy(),
                "label": [line.label for line in parsed],
                "pixels": [line.pixels for line in parsed],
                "reason": [line.reason for line in parsed],
                "detail": [line.detail for line in parsed],
            }
        )


def _unreadable(path: str, error: Exception) -> InputError:
    text = str(error)
    if path.endswith(".gz") and any(sign in text for sign in ("EOFException", "ZipException", "gzip")):
        return InputError(f"{path}: cannot be unpacked, the file is cut off or corrupt: fetch it again")
    cause = next((line.strip() for line in text.splitlines() if "Caused by" in line), text.strip().splitlines()[0])
    return InputError(f"{path}: cannot be read: {cause}")
