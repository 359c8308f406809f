"""The files in a user's folder, listed once by the file system, which treats no name as a pattern or as hidden."""

import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from preprocessing.storage import FileEntry, Storage, reader

# Files that operating systems and Spark add to a folder. Like hidden files, they are left out and counted.
SYSTEM_NAMES = ("__macosx", "thumbs.db", "desktop.ini", "_success", "_metadata", "_common_metadata")
# Kinds of files, by their names. A file of neither of the first two kinds is taken for a picture.
CSV, PARQUET, PICTURES = "CSV files", "Parquet files", "pictures"
# Suffixes of compressed and plain CSV files, in order of preference.
PACKED = ("", ".gz", ".zip")
# The number of a folder's file names that are kept in the driver's memory and checked one by one.
FEW_NAMES = 1000
_ROWS = 10_000

LISTING = T.StructType(
    [
        # The path within the folder, as displayed: a byte that is not UTF-8 becomes \\xNN.
        T.StructField("file", T.StringType(), False),
        # The full path in bytes, for Python to open; null if Spark reads the file.
        T.StructField("path", T.BinaryType()),
        # Size in bytes; null if it is not a regular file.
        T.StructField("length", T.LongType()),
    ]
)
_SCHEMA = pa.schema(
    [pa.field("file", pa.string(), False), pa.field("path", pa.binary()), pa.field("length", pa.int64())]
)


@dataclass
class Folder:
    """The files directly in one folder, without its subfolders.

    Args:
        count: number of files.
        sizes: sizes in bytes of the first ``FEW_NAMES`` files, by name.
    """

    count: int = 0
    sizes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """The files of a folder.

    Args:
        path: the folder or file that was listed, absolute.
        root: the folder, or the parent folder of the file.
        parquet: path of a Parquet file with the columns of ``LISTING``, one row per file, visible to every executor.
        count: number of files.
        size: total size in bytes.
        ignored: number of hidden and system files, which are not included.
        folders: the files directly in each folder, by its path within ``root``.
        empty: paths of the empty folders.
        kinds: the first file of each kind.
        csv_files: the actual paths of all CSV files, by the displayed paths.
        digest: digest of all names, sizes and modification times.
    """

    path: str
    root: str
    parquet: str
    count: int
    size: int
    ignored: int
    folders: dict[str, Folder]
    empty: list[str]
    kinds: dict[str, str]
    csv_files: dict[str, str]
    digest: str

    def names(self, folders: Iterable[str] | None = None) -> Iterator[str]:
        """The paths of the first ``FEW_NAMES`` files of each folder, or of each of the given folders."""
        for folder in self.folders if folders is None else folders:
            yield from (f"{folder}/{name}" if folder else name for name in self.folders[folder].sizes)

    def sizes(self, spark: SparkSession, folder: str) -> Mapping[str, int]:
        """The sizes in bytes of all files directly in a folder, by name."""
        files = self.folders.get(folder, Folder())
        if files.count == len(files.sizes):
            return files.sizes
        is_inside = F.col("file").startswith(f"{folder}/" if folder else "")
        rows = self.read(spark).where(is_inside).select("file", "length").collect()
        names = [(row["file"].rpartition("/"), row["length"] or 0) for row in rows]
        return {name: length for (parent, _, name), length in names if parent == folder}

    def read(self, spark: SparkSession) -> DataFrame:
        """The files, with the columns of ``LISTING``."""
        return reader(spark).schema(LISTING).parquet(self.parquet)


def list_files(storage: Storage, root: str, work: str) -> Listing:
    """List a folder, or a file as if it were the only one in its folder.

    The driver's memory does not grow with the number of files: their names are written to ``work``, an absolute path,
    as they are listed.
    """
    folders: dict[str, Folder] = {}
    empty: set[str] = set()
    kinds: dict[str, str] = {}
    csv_files: dict[str, str] = {}
    count = size = ignored = digest = 0
    is_local, is_folder = root.startswith("file:"), storage.is_folder(root)
    base = root if is_folder else root.rsplit("/", 1)[0]
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "files.parquet"
        with pq.ParquetWriter(file, _SCHEMA) as writer:
            rows: list[tuple[str, bytes | None, int | None]] = []
            for entry in storage.walk(root):
                if entry.is_folder:
                    if not is_ignored(entry.name):
                        empty.add(shown_name(entry.name))
                        empty.discard(shown_name(entry.name).rpartition("/")[0])
                    continue
                digest += _digest(entry)
                if is_folder and is_ignored(entry.name):
                    ignored += 1
                    continue
                shown, path = shown_name(entry.name), f"{base}/{entry.name}".removeprefix("file://")
                folder, _, name = shown.rpartition("/")
                files = folders.setdefault(folder, Folder())
                empty.discard(folder)
                files.count += 1
                if len(files.sizes) < FEW_NAMES:
                    files.sizes[name] = entry.size or 0
                kinds.setdefault(_kind(name), shown)
                if is_csv(name):
                    csv_files[shown] = entry.name
                count, size = count + 1, size + (entry.size or 0)
                rows.append((shown, os.fsencode(path) if is_local else None, entry.size))
                if len(rows) == _ROWS:
                    _write(writer, rows)
            _write(writer, rows)
        parquet = f"{work}/files-{uuid.uuid4().hex}.parquet"
        storage.make_folder(work)
        storage.upload(file, parquet)
    return Listing(
        root,
        base,
        parquet,
        count,
        size,
        ignored,
        dict(sorted(folders.items())),
        sorted(empty),
        kinds,
        csv_files,
        f"{digest:x}",
    )


def is_csv(name: str) -> bool:
    """Whether a file has the suffix of a CSV file, compressed or not."""
    return name.lower().endswith(tuple(f".csv{suffix}" for suffix in PACKED))


def _kind(name: str) -> str:
    return CSV if is_csv(name) else PARQUET if name.lower().endswith(".parquet") else PICTURES


def is_ignored(name: str) -> bool:
    """Whether a path within a folder is that of a hidden or a system file."""
    return any(part.startswith(".") or part.lower() in SYSTEM_NAMES for part in name.split("/"))


def shown_name(name: str) -> str:
    """A path in a form that can be printed and stored as UTF-8."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _digest(entry: FileEntry) -> int:
    """A hash of one file; the sum over all files does not depend on their order."""
    fields = os.fsencode(f"{entry.name}\0{entry.size}\0{entry.modified}")
    return int.from_bytes(hashlib.blake2b(fields, digest_size=16).digest(), "big")


def _write(writer: pq.ParquetWriter, rows: list[tuple[str, bytes | None, int | None]]) -> None:
    columns = zip(*rows, strict=True) if rows else ([], [], [])
    arrays = [pa.array(list(column), type_) for column, type_ in zip(columns, _SCHEMA.types, strict=True)]
    writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA))
    rows.clear()
