"""Sign-MNIST's two CSV files, compressed or not, read by Spark: one row per line, each with its line number."""

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
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from preprocessing.arrow import from_rows
from preprocessing.data_settings import Preprocessing, Source
from preprocessing.decoding import resize_pixels
from preprocessing.errors import InputError
from preprocessing.file_systems import local_path
from preprocessing.labels import LETTERS, class_name
from preprocessing.listing import PACKED, PICTURES, Listing, is_csv, is_ignored
from preprocessing.parsing import HEADER, SIDE, UNLABELED_HEADER, ParsedLine, parse_clean, parse_line
from preprocessing.read_rows import ReadContext, ReadRows, with_id
from preprocessing.schema import PARSED_TABLE, TEST, TRAIN
from preprocessing.similarity import describe, describe_one
from preprocessing.storage import Storage, reader

SHAPE = (SIDE, SIDE, 1)
FILES = {TRAIN: "sign_mnist_train.csv", TEST: "sign_mnist_test.csv"}

# monotonically_increasing_id has the partition in its upper bits, and the row within the partition in these.
_ROW_BITS = 33
# The reason for blank lines, which count in line numbers but are not rows.
_BLANK = "blank"


def find_files(listing: Listing) -> dict[str, str]:
    """Find the file of each split, in any subfolder, compressed or not.

    Returns:
        The path within the folder, by split; empty if there is neither file.

    Raises:
        InputError: Only one of the two files exists, or one exists several times and the choice is ambiguous.
    """
    paths = {split: _find_file(listing, name) for split, name in FILES.items()}
    missing = [FILES[split] for split, path in paths.items() if path is None]
    if len(missing) == len(FILES):
        return {}
    if missing:
        raise InputError(f"{listing.root}: contains none of {missing[0]}, {missing[0]}.gz and {missing[0]}.zip")
    return {split: path for split, path in paths.items() if path is not None}


def _find_file(listing: Listing, name: str) -> str | None:
    """The file in the fewest subfolders, preferably uncompressed."""
    priorities = {f"{name}{suffix}": index for index, suffix in enumerate(PACKED)}
    matches = [file for file in listing.csv_files if file.rpartition("/")[2].lower() in priorities]
    order = {file: (file.count("/"), priorities[file.rpartition("/")[2].lower()]) for file in matches}
    best = [file for file in matches if order[file] == min(order.values())]
    if len(best) > 1:
        raise InputError(f"{listing.root}: contains {' and '.join(sorted(best)[:5])}: remove all but one of them")
    return best[0] if best else None


@dataclass(frozen=True)
class CsvFile:
    """A CSV file of the user.

    Args:
        shown: name of the file in messages.
        path: absolute path that Spark reads.
        name: path within the folder.
    """

    shown: str
    path: str
    name: str


def open_csv(storage: Storage, listing: Listing, name: str, work: str) -> CsvFile:
    """Make a CSV file readable for Spark, whatever its name and compression.

    Args:
        storage: file systems of the Spark session.
        listing: listing of the folder that contains the file.
        name: displayed path within the folder.
        work: absolute path of a folder that every executor sees and that exists as long as the job.

    Raises:
        InputError: A zip file cannot be unpacked, or does not contain exactly one CSV file.
    """
    shown, base_name = f"{listing.root}/{name}", name.rpartition("/")[2]
    is_local, actual_path = listing.root.startswith("file:"), listing.csv_files[name]
    if base_name.lower().endswith(".zip"):
        return CsvFile(shown, _unzip(storage, shown, listing, actual_path, work), name)
    if not is_local or (re.fullmatch(r"[^._:][^:]*\.csv(\.gz)?", base_name) and actual_path == name):
        return CsvFile(shown, shown, name)
    # Spark skips names that begin with a dot or an underscore, and takes a colon for the end of a scheme.
    suffix = ".gz" if base_name.lower().endswith(".gz") else ""
    link = f"{work}/{uuid.uuid4().hex}.csv{suffix}"
    storage.make_folder(work)
    local_path(link).symlink_to(local_path(listing.root) / actual_path)
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
                    raise InputError(f"{path}: contains {len(names)} CSV files instead of one: unpack it")
                with file.open(names[0]) as source, unpacked.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise InputError(f"{path}: cannot be unpacked, the file is cut off or corrupt: fetch it again") from error
        storage.make_folder(work)
        storage.upload(unpacked, target)
    return target


def is_csv_source(listing: Listing) -> bool:
    """Whether a folder has Sign-MNIST's two files, or else other CSV files and no pictures, which are refused."""
    return bool(find_files(listing)) or (bool(listing.csv_files) and PICTURES not in listing.kinds)


def read_sign_mnist(context: ReadContext, source: Source, listing: Listing) -> ReadRows:
    """Read both files.

    Raises:
        InputError: A file has another name, is empty, cannot be unpacked, or does not have Sign-MNIST's header; or
            there are also pictures in class folders.
    """
    files = find_files(listing)
    if not files:
        raise InputError(
            f"{listing.root}: contains CSV files ({sorted(listing.csv_files)[0]}), but none called"
            f" {' or '.join(FILES.values())} (or .gz, .zip): these names distinguish training from test"
        )
    notes = _check_other_files(listing, files, context.class_names)
    opened = {split: open_csv(context.storage, listing, name, context.work) for split, name in files.items()}
    spark, settings = context.spark, context.settings
    convert = functools.partial(resize_rows, settings=settings) if is_resized(settings) else None
    with ThreadPoolExecutor() as pool:
        for check in [pool.submit(_check_header, spark, file) for file in opened.values()]:
            check.result()
        reads = [pool.submit(_read_file, spark, opened[split], source.title, split) for split in (TRAIN, TEST)]
        train, test = (read.result() for read in reads)
    table, kept = train.table.unionByName(test.table), train.kept + test.kept
    return ReadRows(table, train.count + test.count, kept, notes, convert)


def _check_other_files(listing: Listing, files: dict[str, str], class_names: list[str]) -> list[str]:
    """Refuse pictures in class folders next to Sign-MNIST's two files; return notes on other files, if any."""
    names = [name for name in listing.names() if name not in files.values()]
    folders = [name.rpartition("/")[0].rpartition("/")[2] for name in names]
    labels = [class_name(folder, class_names) for folder in folders]
    pictures = [name for name, label in zip(names, labels, strict=True) if label is not None]
    if pictures:
        raise InputError(
            f"{listing.root}: contains Sign-MNIST's CSV files and pictures in class folders ({pictures[0]}):"
            " pass only one of them as --data, or list both as sources in the experiment file"
        )
    if not names:
        return []
    examples = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return [f"{listing.count - len(files):,} files other than Sign-MNIST's two are left out: {examples}"]


def read_csv_files(context: ReadContext, listing: Listing) -> ReadRows:
    """Read all files in Sign-MNIST's format, whatever their names, with labels or without.

    Raises:
        InputError: A file is empty, cannot be unpacked, or has a different header.
    """
    reads = []
    for name in sorted(listing.csv_files):
        file = open_csv(context.storage, listing, name, context.work)
        labeled = _check_header(context.spark, file, (HEADER, UNLABELED_HEADER)) == HEADER
        reads.append(_read_file(context.spark, file, file.name, None, labeled))
    rows = functools.reduce(DataFrame.unionByName, [read.table for read in reads])
    kept = [table for read in reads for table in read.kept]
    rows = with_id(rows, F.concat_ws(":", "file", "line"))
    if is_resized(context.settings):
        rows = resize_rows(rows, context.settings).persist()
        kept.append(rows)
    return ReadRows(rows, sum(read.count for read in reads), kept)


def resize_rows(rows: DataFrame, settings: Preprocessing) -> DataFrame:
    """Bring the column ``pixels``, which has the shape of the files' pictures, to that of the settings."""

    def resize(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            pixels = [
                None if content is None else resize_pixels(content, SHAPE, settings)
                for content in batch.column("pixels").to_pylist()
            ]
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            columns["pixels"] = pa.array(pixels, pa.binary())
            yield pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))

    return rows.mapInArrow(resize, rows.schema)


def is_resized(settings: Preprocessing) -> bool:
    """Whether the settings' pictures differ from those of the files."""
    return settings.shape != SHAPE or settings.short_side != SIDE


def _check_header(spark: SparkSession, file: CsvFile, allowed: tuple[str, ...] = (HEADER,)) -> str:
    try:
        first_row = reader(spark).text(file.path).head()
    except (Py4JJavaError, PySparkException) as error:
        raise _unreadable(file.shown, error) from error
    if first_row is None:
        raise InputError(f"{file.shown}: the file is empty")
    line = first_row[0].lstrip("\ufeff").strip()
    header = line.replace('"', "").replace(" ", "")
    if header not in allowed:
        alternative = ", with or without the label" if UNLABELED_HEADER in allowed else ""
        raise InputError(
            f"{file.shown}:1: the header is {_shown(line)}, not Sign-MNIST's 'label,pixel1,…,pixel784'{alternative}:"
            f" {_difference(header.split(','), allowed)}"
        )
    return header


def _shown(line: str) -> str:
    return repr(line if len(line) <= 60 else f"{line[:60]}…")


def _difference(columns: list[str], allowed: tuple[str, ...]) -> str:
    """How the columns of a header differ from those of the allowed header with the most similar length."""
    expected = min((header.split(",") for header in allowed), key=lambda header: abs(len(header) - len(columns)))
    if len(columns) != len(expected):
        last = f", the last of them {columns[-1]!r}" if columns[-1][:5] != "pixel" else ""
        return f"it has {len(columns):,} columns instead of {len(expected)}{last}"
    index = next(i for i, (name, other) in enumerate(zip(columns, expected, strict=True)) if name != other)
    return f"column {index + 1} is {_shown(columns[index])}, not {expected[index]!r}"


def _read_file(spark: SparkSession, file: CsvFile, source: str, split: str | None, labeled: bool = True) -> ReadRows:
    # At first "line" is Spark's ID of the line, not its number: the number of lines before a partition is known only
    # after all lines are parsed.
    lines = reader(spark).text(file.path).select(F.monotonically_increasing_id().alias("line"), "value")
    parse = functools.partial(_parse_batches, source, file.name, split, labeled)
    parsed = (
        lines.where(F.col("line") > 0)  # without the header
        .select("line", F.concat("value", F.lit("\n")).alias("text"))
        .mapInArrow(parse, PARSED_TABLE)
        .persist()  # The partitions that are counted must be the ones that are numbered.
    )
    partition = F.shiftright("line", _ROW_BITS).cast("int")
    row = F.col("line").bitwiseAND((1 << _ROW_BITS) - 1)
    is_row = F.col("reason").isNull() | (F.col("reason") != _BLANK)
    try:
        partitions = (
            parsed.groupBy(partition.alias("partition"))
            .agg(F.max(row).alias("last"), F.count_if(is_row).alias("rows"))
            .collect()
        )
    except (Py4JJavaError, PySparkException) as error:
        parsed.unpersist()
        raise _unreadable(file.shown, error) from error
    counts = {0: 1} | {counted["partition"]: counted["last"] + 1 for counted in partitions}
    offsets, total = [], 0
    for index in range(max(counts) + 1):
        offsets.append(total)
        total += counts.get(index, 0)
    number = row + F.element_at(F.lit(offsets), partition + 1) + 1
    count = sum(counted["rows"] for counted in partitions)
    return ReadRows(parsed.where(is_row).withColumn("line", number), count, [parsed])


def _parse_batches(
    source: str,
    file: str,
    split: str | None,
    labeled: bool,
    batches: Iterable[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    schema = to_arrow_schema(PARSED_TABLE)
    constants = {"source": source, "file": file, "split": split}
    for batch in batches:
        rows, lines = batch.num_rows, batch.column("text")
        if clean := parse_clean(lines, labeled):
            columns = _columns(*clean)
        else:
            parsed = [
                parse_line(line.removesuffix("\n"), labeled) if line.strip(" \n") else ParsedLine(reason=_BLANK)
                for line in lines.to_pylist()
            ]
            columns = {
                "label": [line.label for line in parsed],
                "pixels": [line.pixels for line in parsed],
                "reason": [line.reason for line in parsed],
                "detail": [line.detail for line in parsed],
                "descriptor": [describe_one(line.pixels, SHAPE) for line in parsed],
            }
        columns["line"] = batch.column("line")
        arrays = []
        for name, type_ in zip(schema.names, schema.types, strict=True):
            if name in columns:
                values = columns[name]
                arrays.append(values if isinstance(values, pa.Array) else pa.array(values, type_))
            elif name in constants:
                arrays.append(pa.array([constants[name]], type_).take(pa.nulls(rows, pa.int32()).fill_null(0)))
            else:
                arrays.append(pa.nulls(rows, type_))
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _columns(labels: np.ndarray | None, pixels: np.ndarray) -> dict[str, Any]:
    """The columns of rows that are all valid."""
    descriptors = describe(pixels.reshape(-1, *SHAPE))
    columns = {"pixels": from_rows(pixels), "descriptor": from_rows(descriptors)}
    return columns if labels is None else columns | {"label": np.array(LETTERS)[labels]}


def _unreadable(path: str, error: Exception) -> InputError:
    message = str(error)
    if any(sign in message for sign in ("PythonException", "Python worker exited")):
        raise error  # The parser failed; the file is not at fault.
    if path.endswith(".gz") and any(sign in message for sign in ("EOFException", "ZipException", "gzip")):
        return InputError(f"{path}: cannot be unpacked, the file is cut off or corrupt: fetch it again")
    lines = message.splitlines()
    cause = next((line.strip() for line in lines if "Caused by" in line), message.strip().splitlines()[0])
    return InputError(f"{path}: cannot be read: {cause}")
