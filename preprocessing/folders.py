"""Folders of photographs, read and decoded by Spark: a folder a class, or what a pattern finds in the path."""

import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from preprocessing.decoding import MAX_BYTES, Decoded, decode
from preprocessing.errors import InputError
from preprocessing.labels import OTHERS, class_name
from preprocessing.layout import Layout, PictureFolder, find_layout
from preprocessing.listing import LISTING, Listing
from preprocessing.names import file_label, is_picture
from preprocessing.rows import ReadRows
from preprocessing.schema import PARSED_TABLE
from preprocessing.settings import Preprocessing, Source
from preprocessing.similarity import describe_one
from preprocessing.storage import reader

# What a task reads.
TASK_BYTES = 32 * 1024 * 1024
# Decoded pictures are ten times as large as their files: so many are held before they are handed on.
PICTURES_AT_ONCE = 256

# Pictures as they lie in a file system: their content is null where Python opens the path.
PICTURE_FILES = "file string, path binary, length long, content binary"


class PathInfo(NamedTuple):
    """What a file's path within its source says of the picture; None where it says nothing."""

    name: str | None
    signer: str | None = None
    frame: int | None = None
    split: str | None = None


# None: the file is none of the source's pictures.
ReadPath = Callable[[str], PathInfo | None]


def read_folder(
    spark: SparkSession, source: Source, listing: Listing, settings: Preprocessing, classes: list[str]
) -> ReadRows:
    """Read the pictures of a folder.

    Args:
        spark: the session.
        source: its name and pattern.
        listing: what lies in the folder.
        settings: how pictures are decoded.
        classes: names of classes beyond those that are known.

    Raises:
        InputError: a class folder is empty, a name is no class, or it cannot be told what trains and what tests.
    """
    counts = {folder: found.count for folder, found in listing.folders.items()}
    around = {parent for folder in [*counts, *listing.empty] for parent in _parents(folder)}
    every = dict.fromkeys([*around, *listing.empty], 0) | counts
    layout = find_layout(source.title, every, functools.partial(listing.sizes, spark), classes, source.pattern)
    if not layout.folders:
        raise InputError(f"{source.title}: there is no picture in it")
    read_path = _path_reader(source.pattern, {folder.path: folder for folder in layout.folders}, classes)
    _check_names(listing, layout, read_path, source, classes)
    files, notes = picture_files(spark, listing), [layout.said]
    read = sum(folder.images for folder in layout.folders)
    if read < listing.count:
        notes.append(f"{listing.count - read:,} files beside the pictures are left out")
    parse = functools.partial(_parse_batches, read_path, settings, classes, source.title, True)
    table = files.mapInPandas(parse, PARSED_TABLE).persist()
    return ReadRows(table, read, [table], notes)


def read_pictures(spark: SparkSession, listing: Listing, settings: Preprocessing, classes: list[str]) -> DataFrame:
    """Read every file of a folder and its folders, labelled where its folder is called like a class.

    Returns:
        The columns of ``PARSED_TABLE``, a row for each file of the listing.
    """
    return decode_files(picture_files(spark, listing), listing.root, settings, classes)


def decode_files(files: DataFrame, folder: str, settings: Preprocessing, classes: list[str]) -> DataFrame:
    """Decode files, labelled where their folder is called like a class.

    Args:
        files: the columns of ``PICTURE_FILES``.
        folder: that they lie in, or in folders of it, absolute.
        settings: how pictures are decoded.
        classes: names of classes beyond those that are known.

    Returns:
        The columns of ``PARSED_TABLE``, a row for each.
    """
    title = folder.rsplit("/", 1)[-1]
    parse = functools.partial(_parse_batches, _path_reader(None, None, classes, title), settings, classes, title, False)
    return files.mapInPandas(parse, PARSED_TABLE)


def picture_files(spark: SparkSession, listing: Listing) -> DataFrame:
    """The columns of ``PICTURE_FILES`` for each file of a listing, in tasks of many small pictures.

    Local files are opened by the Python that decodes them, whatever they are called. What lies on other file systems
    Spark reads, which does not list some names: those files have no content.
    """
    files = listing.read(spark)
    # many small pictures a task, and no more bytes than it can hold
    tasks = max(2 * spark.sparkContext.defaultParallelism, listing.size // TASK_BYTES)
    if listing.root.startswith("file:"):
        return files.repartition(min(tasks, max(1, listing.count))).withColumn("content", F.lit(None).cast("binary"))
    content = reader(spark).format("binaryFile").option("recursiveFileLookup", "true").load(listing.path)
    read = content.where(F.col("length") <= MAX_BYTES).select(
        F.expr(f"substring(path, {len(listing.root) + 2})").alias("file"), "content"
    )
    return files.join(read.coalesce(tasks), "file", how="left").select(*LISTING.names, "content")


def _parents(folder: str) -> Iterator[str]:
    while folder:
        folder = folder.rpartition("/")[0]
        yield folder


def _path_reader(
    pattern: str | None, folders: Mapping[str, PictureFolder] | None, classes: list[str], title: str = ""
) -> ReadPath:
    """What a file's path within the source tells.

    Args:
        pattern: the source's.
        folders: what the folders were taken for; None: a file's folder may be called like its class, or not.
        classes: names of classes beyond those that are known.
        title: the name of the source's own folder, where there are no others.
    """
    expression = re.compile(pattern) if pattern else None
    labelled = expression is not None and "label" in expression.groupindex

    def read_path(file: str) -> PathInfo | None:
        found = expression.search(file) if expression else None
        groups = found.groupdict() if found else {}
        path, _, name = file.rpartition("/")
        folder = folders.get(path) if folders is not None else None
        if folders is not None and (folder is None or (folder.label is None and not is_picture(name))):
            return None
        if labelled:
            label = groups.get("label")
        elif folder is None:
            label = path.rpartition("/")[2] or title
        else:
            label = folder.label or file_label(name, classes)
        frame = groups.get("frame") or ""
        split = folder.split if folder is not None else None
        return PathInfo(label, groups.get("signer"), int(frame) if frame.isdecimal() else None, split)

    return read_path


def _check_names(listing: Listing, layout: Layout, read_path: ReadPath, source: Source, classes: list[str]) -> None:
    if "label" in (re.compile(source.pattern).groupindex if source.pattern else {}):
        found: dict[str, str] = {}
        for file in listing.names(folder.path for folder in layout.folders):
            told = read_path(file)
            if told is not None and told.name is not None:
                found.setdefault(told.name, file)
        unknown = [name for name in found if class_name(name, classes) is None]
        if unknown:
            raise InputError(
                f"{source.title}: {found[unknown[0]]}: {', '.join(repr(name) for name in unknown[:10])} is no class;"
                f" classes are letters, digits, {', '.join(OTHERS)}, and what --classes names"
            )
        return
    empty = [path for path in listing.empty if class_name(path.rpartition("/")[2], classes) is not None]
    if empty:
        raise InputError(f"{listing.root}: the class folder {', '.join(empty[:10])} is empty")


def _parse_batches(
    read_path: ReadPath,
    settings: Preprocessing,
    classes: list[str],
    source: str,
    labelled: bool,
    batches: Iterable[pd.DataFrame],
) -> Iterator[pd.DataFrame]:
    for batch in batches:
        for first in range(0, len(batch), PICTURES_AT_ONCE):
            rows = []
            part = batch.iloc[first : first + PICTURES_AT_ONCE]
            columns = (part[name] for name in ("file", "path", "length", "content"))
            for file, path, length, content in zip(*columns, strict=True):
                told = read_path(file)
                if told is None:
                    continue
                label = class_name(told.name, classes) if told.name is not None else None
                if label is None and labelled:
                    picture = Decoded(reason="no class in the path", detail="the pattern finds no label in it")
                else:
                    picture = _read(path, length, content, settings)
                usable = picture.pixels is not None
                rows.append(
                    (source, file, None, label if usable else None, picture.pixels, picture.reason, picture.detail,
                     told.signer, told.frame, told.split, describe_one(picture.pixels, settings.shape))
                )  # fmt: skip
            yield pd.DataFrame(rows, columns=PARSED_TABLE.names).astype({"line": "Int64", "frame": "Int64"})


def _read(path: bytes | None, length: float | None, content: bytes | None, settings: Preprocessing) -> Decoded:
    if length is None or pd.isna(length):
        return Decoded(reason="not a file", detail="a link that leads nowhere, or no regular file")
    if length > MAX_BYTES:
        return Decoded(reason="too large a file", detail=f"{int(length):,} bytes; {MAX_BYTES:,} are the most")
    if path is not None:
        try:
            with Path(os.fsdecode(path)).open("rb") as file:
                content = file.read(MAX_BYTES + 1)  # it may have grown
        except OSError as error:
            return Decoded(reason="cannot be read", detail=error.strerror or type(error).__name__)
    elif content is None and length:
        return Decoded(reason="cannot be read", detail="Spark lists no file of this name here: rename it")
    return decode(content or b"", settings)
