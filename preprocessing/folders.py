"""Folders of photographs, read and decoded by Spark: a folder a class, or what a pattern finds in the path."""

import functools
import re
from collections.abc import Callable, Iterable, Iterator

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from preprocessing.decoding import MAX_BYTES, Decoded, decode
from preprocessing.errors import InputError
from preprocessing.labels import OTHERS, class_name
from preprocessing.schema import PARSED_TABLE, TEST, TRAIN
from preprocessing.settings import Preprocessing, Source
from preprocessing.similarity import describe_one
from preprocessing.storage import Storage

# What a task reads, and how many names of classes are looked at.
TASK_BYTES, MAX_NAMES = 32 * 1024 * 1024, 1000
# Decoded pictures are ten times as large as their files: so many are held before they are handed on.
PICTURES_AT_ONCE = 256


def read_folder(
    spark: SparkSession, storage: Storage, source: Source, folder: str, settings: Preprocessing, classes: list[str]
) -> DataFrame:
    """Read the pictures of a folder.

    Args:
        spark: the session.
        storage: its file systems.
        source: its name and pattern.
        folder: where it lies, absolute.
        settings: how pictures are decoded.
        classes: names of classes beyond those that are known.

    Returns:
        The columns of ``PARSED_TABLE``.

    Raises:
        InputError: a class folder is empty, a name is no class, or there are folders beside train and test.
    """
    tables = []
    for split, part in _splits(storage, folder).items():
        files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(part)
        read_path = _path_reader(folder, source.pattern)
        found = _check_names(storage, files, read_path, source, part, classes)
        parse = functools.partial(_parse_batches, read_path, settings, classes, source.title, split, True)
        tables.append(_contents(spark, storage, files, part, found).mapInPandas(parse, PARSED_TABLE))
    return functools.reduce(DataFrame.unionByName, tables)


def read_pictures(
    spark: SparkSession, storage: Storage, folder: str, settings: Preprocessing, classes: list[str]
) -> DataFrame:
    """Read every file of a folder and its folders, labelled where its folder is called like a class.

    Returns:
        The columns of ``PARSED_TABLE``.
    """
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(folder)
    sizes = files.select(
        F.count(F.lit(1)), F.coalesce(F.sum("length"), F.lit(0)), F.count_if(F.col("length") > MAX_BYTES)
    )
    [found] = sizes.collect()
    return decode_files(_contents(spark, storage, files, folder, tuple(found)), folder, settings, classes)


def decode_files(files: DataFrame, folder: str, settings: Preprocessing, classes: list[str]) -> DataFrame:
    """Decode files, labelled where their folder is called like a class.

    Args:
        files: the columns path, length and content, which is null where the file is too large to be read.
        folder: that they lie in, or in folders of it, absolute.
        settings: how pictures are decoded.
        classes: names of classes beyond those that are known.

    Returns:
        The columns of ``PARSED_TABLE``, a row for each.
    """
    title = folder.rsplit("/", 1)[-1]
    parse = functools.partial(_parse_batches, _path_reader(folder, None), settings, classes, title, None, False)
    return files.mapInPandas(parse, PARSED_TABLE)


def _contents(
    spark: SparkSession, storage: Storage, files: DataFrame, folder: str, found: tuple[int, int, int]
) -> DataFrame:
    """The path, length and content of each file; that of too large ones is not read.

    Args:
        spark: the session.
        storage: its file systems.
        files: those of the folder that are not empty.
        folder: where they lie.
        found: how many there are, their bytes, and how many of them are too large.
    """
    count, total, large = found
    # many small pictures a task, and no more bytes than it can hold
    tasks = max(2 * spark.sparkContext.defaultParallelism, total // TASK_BYTES)
    read = [files.where(F.col("length") <= MAX_BYTES).select("path", "length", "content").coalesce(tasks)]
    if large:
        sizes = files.where(F.col("length") > MAX_BYTES).select("path", "length")
        read.append(sizes.withColumn("content", F.lit(None).cast("binary")))
    empty = [(path, 0, b"") for path in storage.empty_files(folder, count)]
    if empty:
        read.append(spark.createDataFrame(empty, read[0].schema))
    return functools.reduce(DataFrame.unionByName, read)


def _splits(storage: Storage, folder: str) -> dict[str | None, str]:
    """The folder of each split, or the one folder that is to be divided."""
    names = {name.lower(): name for name in storage.folders(folder)}
    if not {TRAIN, TEST} <= set(names):
        return {None: folder}
    others = sorted(set(names) - {TRAIN, TEST})
    if others:
        raise InputError(
            f"{folder}: beside train and test it has {', '.join(names[name] for name in others)}, which"
            " cannot be used: move them elsewhere"
        )
    return {split: f"{folder}/{names[split]}" for split in (TRAIN, TEST)}


ReadPath = Callable[[str], tuple[str, str | None, str | None, int | None]]


def _path_reader(folder: str, pattern: str | None) -> ReadPath:
    """What a path tells: the file within the folder, the name of its class, the signer and the frame."""
    expression = re.compile(pattern) if pattern else None
    labelled = expression is not None and "label" in expression.groupindex
    start = len(re.sub("^file:/+", "file:/", folder)) + 1

    def read_path(path: str) -> tuple[str, str | None, str | None, int | None]:
        file = re.sub("^file:/+", "file:/", path)[start:]
        found = expression.search(file) if expression else None
        groups = found.groupdict() if found else {}
        name = groups.get("label") if labelled else path.rsplit("/", 2)[-2]
        frame = groups.get("frame") or ""
        return file, name, groups.get("signer"), int(frame) if frame.isdecimal() else None

    return read_path


def _check_names(
    storage: Storage, files: DataFrame, read_path: ReadPath, source: Source, folder: str, classes: list[str]
) -> tuple[int, int, int]:
    """How many files there are, their bytes, and how many are too large."""

    def read(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            rows = [read_path(path)[:2] for path in batch["path"]]
            yield pd.DataFrame(rows, columns=["file", "name"]).assign(length=batch["length"].to_numpy())

    # a list, of which few tasks make short work
    paths = files.select("path", "length").coalesce(files.sparkSession.sparkContext.defaultParallelism)
    names = (
        paths.mapInPandas(read, "file string, name string, length long")
        .groupBy("name")
        .agg(
            F.min("file").alias("file"),
            F.count(F.lit(1)).alias("count"),
            F.sum("length").alias("bytes"),
            F.sum((F.col("length") > MAX_BYTES).cast("int")).alias("large"),
        )
    )
    rows = names.orderBy("file").limit(MAX_NAMES).collect()
    found = {row["name"]: row["file"] for row in rows}
    unknown = [name for name in found if name is not None and class_name(name, classes) is None]
    if unknown:
        raise InputError(
            f"{source.title}: {found[unknown[0]]}: {', '.join(repr(name) for name in unknown[:10])} is no class;"
            f" classes are letters, digits, {', '.join(OTHERS)}, and what --classes names"
        )
    counts = (sum(row["count"] for row in rows), sum(row["bytes"] for row in rows), sum(row["large"] for row in rows))
    if "label" in (re.compile(source.pattern).groupindex if source.pattern else {}):
        return counts
    empty = [
        path.removeprefix(f"{folder}/")
        for path in storage.empty_folders(folder)
        if class_name(path.rsplit("/", 1)[-1], classes) is not None
    ]
    if empty:
        raise InputError(f"{folder}: the class folder {', '.join(sorted(empty)[:10])} is empty")
    return counts


def _parse_batches(
    read_path: ReadPath,
    settings: Preprocessing,
    classes: list[str],
    source: str,
    split: str | None,
    labelled: bool,
    batches: Iterable[pd.DataFrame],
) -> Iterator[pd.DataFrame]:
    for batch in batches:
        for first in range(0, len(batch), PICTURES_AT_ONCE):
            rows = []
            part = batch.iloc[first : first + PICTURES_AT_ONCE]
            for path, length, content in zip(part["path"], part["length"], part["content"], strict=True):
                file, name, signer, frame = read_path(path)
                label = class_name(name, classes) if name is not None else None
                if label is None and labelled:
                    picture = Decoded(reason="no class in the path", detail="the pattern finds no label in it")
                elif content is None:
                    picture = Decoded(reason="too large a file", detail=f"{length:,} bytes; {MAX_BYTES:,} are the most")
                else:
                    picture = decode(content, settings)
                usable = picture.pixels is not None
                rows.append(
                    (source, file, None, label if usable else None, picture.pixels, picture.reason, picture.detail,
                     signer, frame, split, describe_one(picture.pixels, settings.shape))
                )  # fmt: skip
            yield pd.DataFrame(rows, columns=PARSED_TABLE.names).astype({"line": "Int64", "frame": "Int64"})
