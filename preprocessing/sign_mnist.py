"""Sign-MNIST's two CSV files, packed or not, read by Spark: one row a line, each with its line number."""

import functools
import re
import shutil
import tempfile
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from preprocessing.arrow import from_rows
from preprocessing.decoding import resize_pixels
from preprocessing.errors import InputError
from preprocessing.labels import LETTERS
from preprocessing.listing import PACKED, Listing, is_csv, is_ignored
from preprocessing.parsing import HEADER, SIDE, UNLABELLED_HEADER, ParsedLine, parse_clean, parse_line
from preprocessing.rows import ReadRows
from preprocessing.schema import PARSED_TABLE, TEST, TRAIN
from preprocessing.settings import Preprocessing
from preprocessing.similarity import describe, describe_one
from preprocessing.storage import Storage, local_path, reader

FILES = {TRAIN: "sign_mnist_train.csv", TEST: "sign_mnist_test.csv"}

# monotonically_increasing_id: the partition above, the row within it below
_ROW_BITS = 33
# Counted, and of no use.
_BLANK = "blank"


def find_files(listing: Listing) -> dict[str, str]:
    """The path within the folder of each split's file, wherever it lies, packed or not; none where there is neither.

    Raises:
        InputError: only one of the two is there, or one is there twice and it cannot be told which is meant.
    """
    paths = {split: _find_file(listing, name) for split, name in FILES.items()}
    missing = [FILES[split] for split, path in paths.items() if path is None]
    if len(missing) == len(FILES):
        return {}
    if missing:
        raise InputError(f"{listing.root}: holds neither {missing[0]} nor {missing[0]}.gz, nor .zip")
    return {split: path for split, path in paths.items() if path is not None}


def _find_file(listing: Listing, name: str) -> str | None:
    """The file that lies nearest to the top, as it is rather than packed."""
    wanted = {f"{name}{packed}": place for place, packed in enumerate(PACKED)}
    found = [file for file in listing.csv_files if file.rpartition("/")[2].lower() in wanted]
    order = {file: (file.count("/"), wanted[file.rpartition("/")[2].lower()]) for file in found}
    best = [file for file in found if order[file] == min(order.values())]
    if len(best) > 1:
        raise InputError(f"{listing.root}: {' and '.join(sorted(best)[:5])} are both there: take all but one away")
    return best[0] if best else None


@dataclass(frozen=True)
class CsvFile:
    """A CSV file of the user's.

    Args:
        shown: what messages call it.
        path: where Spark reads it, absolute.
        name: its path within the folder.
    """

    shown: str
    path: str
    name: str


def open_csv(storage: Storage, listing: Listing, name: str, work: str) -> CsvFile:
    """A CSV file that Spark can read: what it is called, and how it is packed, is no matter.

    Args:
        storage: the session's file systems.
        listing: of the folder that it lies in.
        name: its path within the folder, as it is shown.
        work: a folder that every executor sees and that stays as long as the job, absolute.

    Raises:
        InputError: a zip file that cannot be unpacked, or holds another number of CSV files than one.
    """
    shown, own = f"{listing.root}/{name}", name.rpartition("/")[2]
    is_local, actual = listing.root.startswith("file:"), listing.csv_files[name]
    if own.lower().endswith(".zip"):
        return CsvFile(shown, _unzip(storage, shown, listing, actual, work), name)
    if not is_local or (re.fullmatch(r"[^._:][^:]*\.csv(\.gz)?", own) and actual == name):
        return CsvFile(shown, shown, name)
    # Spark passes over names that begin with a dot or an underscore, and takes a colon for a scheme's
    packed = ".gz" if own.lower().endswith(".gz") else ""
    link = f"{work}/{uuid.uuid4().hex}.csv{packed}"
    storage.make_folder(work)
    local_path(link).symlink_to(local_path(listing.root) / actual)
    return CsvFile(shown, link, name)


def _unzip(storage: Storage, path: str, listing: Listing, name: str, work: str) -> str:
    target = f"{work}/{uuid.uuid4().hex}.csv"
    with tempfile.TemporaryDirectory() as folder:
        packed, unpacked = Path(folder) / "packed.zip", Path(folder) / "unpacked.csv"
        if listing.root.startswith("file:"):
            packed.symlink_to(local_path(listing.root) / name)
        else:
            storage.download(path, packed)
        try:
            with zipfile.ZipFile(packed) as file:
                names = [name for name in file.namelist() if is_csv(name) and not is_ignored(name)]
                if len(names) != 1:
                    raise InputError(f"{path}: holds {len(names)} CSV files, one is read: unpack it")
                with file.open(names[0]) as source, unpacked.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise InputError(f"{path}: cannot be unpacked, the file is cut off or corrupt: fetch it again") from error
        storage.make_folder(work)
        storage.upload(unpacked, target)
    return target


def read_sign_mnist(
    spark: SparkSession,
    storage: Storage,
    source: str,
    listing: Listing,
    files: dict[str, str],
    work: str,
    settings: Preprocessing,
) -> ReadRows:
    """Read both files.

    Args:
        spark: the session.
        storage: its file systems.
        source: what the source is called.
        listing: what lies in the folder.
        files: see :func:`find_files`.
        work: a folder for what is unpacked, absolute.
        settings: the size and colour that the pictures are brought to.

    Raises:
        InputError: a file is empty, cannot be unpacked, or has a header that is not Sign-MNIST's.
    """
    opened = {split: open_csv(storage, listing, name, work) for split, name in files.items()}
    with ThreadPoolExecutor() as pool:
        for checked in [pool.submit(_check_header, spark, file) for file in opened.values()]:
            checked.result()
        read = [pool.submit(_read_file, spark, opened[split], source, split, settings) for split in (TRAIN, TEST)]
        train, test = (file.result() for file in read)
    return ReadRows(train.table.unionByName(test.table), train.count + test.count, train.kept + test.kept)


def read_csv(spark: SparkSession, file: CsvFile, settings: Preprocessing) -> ReadRows:
    """Read one file in Sign-MNIST's form, whatever its name, with labels or without.

    Raises:
        InputError: the file is empty, cannot be unpacked, or has another header.
    """
    labelled = _check_header(spark, file, (HEADER, UNLABELLED_HEADER)) == HEADER
    return _read_file(spark, file, file.name, None, settings, labelled)


def _check_header(spark: SparkSession, file: CsvFile, allowed: tuple[str, ...] = (HEADER,)) -> str:
    try:
        first = reader(spark).text(file.path).head()
    except (Py4JJavaError, PySparkException) as error:
        raise _unreadable(file.shown, error) from error
    if first is None:
        raise InputError(f"{file.shown}: the file is empty")
    line = first[0].lstrip("\ufeff").strip()
    header = line.replace('"', "").replace(" ", "")
    if header not in allowed:
        without = ", with or without the label" if UNLABELLED_HEADER in allowed else ""
        raise InputError(
            f"{file.shown}:1: the header is {_shown(line)}, not Sign-MNIST's 'label,pixel1,…,pixel784'{without}:"
            f" {_difference(header.split(','), allowed)}"
        )
    return header


def _shown(line: str) -> str:
    return repr(line if len(line) <= 60 else f"{line[:60]}…")


def _difference(found: list[str], allowed: tuple[str, ...]) -> str:
    """In what a header differs from the allowed one that is nearest to it."""
    wanted = min((header.split(",") for header in allowed), key=lambda header: abs(len(header) - len(found)))
    if len(found) != len(wanted):
        last = f", the last of them {found[-1]!r}" if found[-1][:5] != "pixel" else ""
        return f"it has {len(found):,} columns{last}, and {len(wanted)} are needed"
    place = next(place for place, (name, other) in enumerate(zip(found, wanted, strict=True)) if name != other)
    return f"column {place + 1} is {_shown(found[place])}, not {wanted[place]!r}"


def _read_file(
    spark: SparkSession, file: CsvFile, source: str, split: str | None, settings: Preprocessing, labelled: bool = True
) -> ReadRows:
    # the place of a line at first, not its number: how many there are before a partition is known when all are parsed
    lines = reader(spark).text(file.path).select(F.monotonically_increasing_id().alias("line"), "value")
    parse = functools.partial(_parse_batches, settings, source, file.name, split, labelled)
    places = (
        lines.where(F.col("line") > 0)  # the header
        .select("line", F.concat("value", F.lit("\n")).alias("text"))
        .mapInArrow(parse, PARSED_TABLE)
        .persist()  # the partitions that are counted have to be the ones that are numbered
    )
    partition = F.shiftright("line", _ROW_BITS).cast("int")
    row = F.col("line").bitwiseAND((1 << _ROW_BITS) - 1)
    is_row = F.col("reason").isNull() | (F.col("reason") != _BLANK)
    try:
        counted = (
            places.groupBy(partition.alias("partition"))
            .agg(F.max(row).alias("last"), F.count_if(is_row).alias("rows"))
            .collect()
        )
    except (Py4JJavaError, PySparkException) as error:
        places.unpersist()
        raise _unreadable(file.shown, error) from error
    counts = {0: 1} | {found["partition"]: found["last"] + 1 for found in counted}
    offsets, total = [], 0
    for index in range(max(counts) + 1):
        offsets.append(total)
        total += counts.get(index, 0)
    number = row + F.element_at(F.lit(offsets), partition + 1) + 1
    return ReadRows(places.where(is_row).withColumn("line", number), sum(found["rows"] for found in counted), [places])


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
