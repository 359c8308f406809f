"""Folders of photographs, read and decoded by Spark; the class comes from the folder, or from a pattern."""

import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from preprocessing.data_settings import Preprocessing, Source
from preprocessing.decoding import MAX_BYTES, Decoded, decode
from preprocessing.errors import InputError
from preprocessing.labels import OTHERS, class_name
from preprocessing.layout import Layout, PictureFolder, find_layout
from preprocessing.listing import LISTING, Listing
from preprocessing.names import file_label, is_picture
from preprocessing.read_rows import ReadContext, ReadRows, with_id
from preprocessing.schema import PARSED_TABLE
from preprocessing.similarity import describe_one
from preprocessing.storage import reader

# Bytes of picture files that one task reads.
TASK_BYTES = 32 * 1024 * 1024
# Decoded pictures are ten times as large as their files: at most this many are decoded before they are passed on.
PICTURES_AT_ONCE = 256

# Picture files; the content is null if Python opens the path.
PICTURE_FILES = "file string, path binary, length long, content binary"


class PathInfo(NamedTuple):
    """The class name, signer, frame and split that a file's path within its source gives; None if it gives none."""

    name: str | None
    signer: str | None = None
    frame: int | None = None
    split: str | None = None


# Returns None if the file is not one of the source's pictures.
ReadPath = Callable[[str], PathInfo | None]


def read_folder(context: ReadContext, source: Source, listing: Listing) -> ReadRows:
    """Read the pictures of a source.

    Raises:
        InputError: A class folder is empty, a name is not a class, or the training and test folders are ambiguous.
    """
    spark, class_names = context.spark, context.class_names
    counts = {folder: files.count for folder, files in listing.folders.items()}
    parents = {parent for folder in [*counts, *listing.empty] for parent in _parents(folder)}
    all_counts = dict.fromkeys([*parents, *listing.empty], 0) | counts
    list_folder = functools.partial(listing.sizes, spark)
    layout = find_layout(source.title, all_counts, list_folder, class_names, source.pattern)
    if not layout.folders:
        raise InputError(f"{source.title}: the folder contains no pictures")
    read_path = _path_reader(source.pattern, {folder.path: folder for folder in layout.folders}, class_names)
    _check_names(listing, layout, read_path, source, class_names)
    files, notes = picture_files(spark, listing), [layout.summary]
    count = sum(folder.images for folder in layout.folders)
    if count < listing.count:
        notes.append(f"{listing.count - count:,} files that are not pictures are left out")
    parse = functools.partial(_parse_batches, read_path, context.settings, class_names, source.title, True)
    table = files.mapInPandas(parse, PARSED_TABLE).persist()
    return ReadRows(table, count, [table], notes)


def read_pictures(context: ReadContext, listing: Listing) -> ReadRows:
    """Read every file of a folder and its subfolders; a file has a label if its folder has the name of a class."""
    files = picture_files(context.spark, listing)
    decoded = decode_files(files, listing.root, context.settings, context.class_names)
    # Persisted, so that pictures are decoded once, not once for the valid rows and once for the others.
    rows = with_id(decoded, F.col("file")).persist()
    return ReadRows(rows, listing.count, [rows])


def decode_files(files: DataFrame, folder: str, settings: Preprocessing, class_names: list[str]) -> DataFrame:
    """Decode files; a file has a label if its folder has the name of a class.

    Args:
        files: table with the columns of ``PICTURE_FILES``.
        folder: absolute path of the folder that contains them, directly or in subfolders.
        settings: how pictures are decoded.
        class_names: names of classes beyond the built-in ones.

    Returns:
        The columns of ``PARSED_TABLE``, one row per file.
    """
    title = folder.rsplit("/", 1)[-1]
    read_path = _path_reader(None, None, class_names, title)
    parse = functools.partial(_parse_batches, read_path, settings, class_names, title, False)
    return files.mapInPandas(parse, PARSED_TABLE)


def picture_files(spark: SparkSession, listing: Listing) -> DataFrame:
    """The columns of ``PICTURE_FILES`` for each file of a listing, with many small pictures per task.

    Local files are opened by the Python worker that decodes them, whatever their names. Files on other file systems
    are read by Spark, which does not list some names: those files have null content.
    """
    files = listing.read(spark)
    # Enough tasks for all cores, and none with more bytes than it can hold.
    tasks = max(2 * spark.sparkContext.defaultParallelism, listing.size // TASK_BYTES)
    if listing.root.startswith("file:"):
        return files.repartition(min(tasks, max(1, listing.count))).withColumn("content", F.lit(None).cast("binary"))
    content = reader(spark).format("binaryFile").option("recursiveFileLookup", "true").load(listing.path)
    content = content.where(F.col("length") <= MAX_BYTES).select(
        F.expr(f"substring(path, {len(listing.root) + 2})").alias("file"), "content"
    )
    return files.join(content.coalesce(tasks), "file", how="left").select(*LISTING.names, "content")


def _parents(folder: str) -> Iterator[str]:
    while folder:
        folder = folder.rpartition("/")[0]
        yield folder


def _path_reader(
    pattern: str | None, folders: Mapping[str, PictureFolder] | None, class_names: list[str], title: str = ""
) -> ReadPath:
    """Create a function that reads the label, signer, frame and split from a file's path within the source.

    Args:
        pattern: pattern of the source.
        folders: the folders of the layout, by path. None: the name of a file's folder is used, be it a class or not.
        class_names: names of classes beyond the built-in ones.
        title: name of the source's own folder, used for files directly in it.
    """
    expression = re.compile(pattern) if pattern else None
    labeled = expression is not None and "label" in expression.groupindex

    def read_path(file: str) -> PathInfo | None:
        match = expression.search(file) if expression else None
        groups = match.groupdict() if match else {}
        path, _, name = file.rpartition("/")
        folder = folders.get(path) if folders is not None else None
        if folders is not None and (folder is None or (folder.label is None and not is_picture(name))):
            return None
        if labeled:
            label = groups.get("label")
        elif folder is None:
            label = path.rpartition("/")[2] or title
        else:
            label = folder.label or file_label(name, class_names)
        frame = groups.get("frame") or ""
        split = folder.split if folder is not None else None
        return PathInfo(label, groups.get("signer"), int(frame) if frame.isdecimal() else None, split)

    return read_path


def _check_names(listing: Listing, layout: Layout, read_path: ReadPath, source: Source, class_names: list[str]) -> None:
    if "label" in (re.compile(source.pattern).groupindex if source.pattern else {}):
        first_files: dict[str, str] = {}
        for file in listing.names(folder.path for folder in layout.folders):
            info = read_path(file)
            if info is not None and info.name is not None:
                first_files.setdefault(info.name, file)
        unknown = [name for name in first_files if class_name(name, class_names) is None]
        if unknown:
            raise InputError(
                f"{source.title}: {first_files[unknown[0]]}: {', '.join(repr(name) for name in unknown[:10])} is not a"
                f" class; classes are letters, digits, {', '.join(OTHERS)}, and those of --class-names"
            )
        return
    empty = [path for path in listing.empty if class_name(path.rpartition("/")[2], class_names) is not None]
    if empty:
        raise InputError(f"{listing.root}: the class folder {', '.join(empty[:10])} is empty")


def _parse_batches(
    read_path: ReadPath,
    settings: Preprocessing,
    class_names: list[str],
    source: str,
    labeled: bool,
    batches: Iterable[pd.DataFrame],
) -> Iterator[pd.DataFrame]:
    for batch in batches:
        for first in range(0, len(batch), PICTURES_AT_ONCE):
            rows = []
            part = batch.iloc[first : first + PICTURES_AT_ONCE]
            columns = (part[name] for name in ("file", "path", "length", "content"))
            for file, path, length, content in zip(*columns, strict=True):
                info = read_path(file)
                if info is None:
                    continue
                label = class_name(info.name, class_names) if info.name is not None else None
                if label is None and labeled:
                    picture = Decoded(reason="no class in the path", detail="the pattern does not match a label")
                else:
                    picture = _read(path, length, content, settings)
                usable = picture.pixels is not None
                rows.append(
                    (source, file, None, label if usable else None, picture.pixels, picture.reason, picture.detail,
                     info.signer, info.frame, info.split, describe_one(picture.pixels, settings.shape),
                     *picture.hand_row)
                )  # fmt: skip
            yield pd.DataFrame(rows, columns=PARSED_TABLE.names).astype({"line": "Int64", "frame": "Int64"})


def _read(path: bytes | None, length: float | None, content: bytes | None, settings: Preprocessing) -> Decoded:
    if length is None or pd.isna(length):
        return Decoded(reason="not a file", detail="a broken link, or not a regular file")
    if length > MAX_BYTES:
        return Decoded(reason="too large a file", detail=f"{int(length):,} bytes; the maximum is {MAX_BYTES:,}")
    if path is not None:
        try:
            with Path(os.fsdecode(path)).open("rb") as file:
                content = file.read(MAX_BYTES + 1)  # The file may have grown since it was listed.
        except OSError as error:
            return Decoded(reason="cannot be read", detail=error.strerror or type(error).__name__)
    elif content is None and length:
        return Decoded(reason="cannot be read", detail="Spark does not list a file with this name: rename it")
    return decode(content or b"", settings)
