"""What lies in a folder of the user's, looked at once, by the file system: no name is a pattern or hidden to it."""

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

# What systems put beside a user's files; like names that begin with a dot they are left out, and counted.
SYSTEM_NAMES = ("__macosx", "thumbs.db", "desktop.ini", "_success", "_metadata", "_common_metadata")
# Kinds of files, told by their names; what is neither of the other two is taken for a picture.
CSV, PARQUET, PICTURES = "CSV files", "Parquet files", "pictures"
# Endings of a CSV file that is packed or not, those that are preferred first.
PACKED = ("", ".gz", ".zip")
# Names of a folder's files that are looked at one by one, where no folder tells the class.
FEW_NAMES = 1000
_ROWS = 10_000

LISTING = T.StructType(
    [
        # The path within the folder, as it is shown: a byte that is not UTF-8 is \\xNN.
        T.StructField("file", T.StringType(), False),
        # The whole path in bytes, to be opened by Python; null where Spark reads it.
        T.StructField("path", T.BinaryType()),
        # Null where it is no regular file.
        T.StructField("length", T.LongType()),
    ]
)
_SCHEMA = pa.schema(
    [pa.field("file", pa.string(), False), pa.field("path", pa.binary()), pa.field("length", pa.int64())]
)


@dataclass
class Folder:
    """The files that lie in one folder, not in folders of it: how many, and the first thousand with their bytes."""

    count: int = 0
    sizes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """The files of a folder.

    Args:
        path: what was listed, absolute.
        root: the folder, or the one around the file.
        parquet: all of its files, with the columns of ``LISTING``, where every executor sees it.
        count: how many they are.
        size: their bytes.
        ignored: hidden and system files, which are none of them.
        folders: those that lie in each folder, by its path within ``root``; folders of a folder are not in it.
        empty: folders in which there is nothing else.
        kinds: the first file of each kind.
        csv_files: the paths of all CSV files as they are shown, and as they are.
        digest: the same for the same names, sizes and times.
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
        """The paths of the first thousand files of each folder, or of each of these folders."""
        for folder in self.folders if folders is None else folders:
            yield from (f"{folder}/{name}" if folder else name for name in self.folders[folder].sizes)

    def sizes(self, spark: SparkSession, folder: str) -> Mapping[str, int]:
        """The names and bytes of all files that lie in a folder."""
        found = self.folders.get(folder, Folder())
        if found.count == len(found.sizes):
            return found.sizes
        within = F.col("file").startswith(f"{folder}/" if folder else "")
        rows = self.read(spark).where(within).select("file", "length").collect()
        names = [(row["file"].rpartition("/"), row["length"] or 0) for row in rows]
        return {name: length for (place, _, name), length in names if place == folder}

    def read(self, spark: SparkSession) -> DataFrame:
        """The columns of ``LISTING``."""
        return reader(spark).schema(LISTING).parquet(self.parquet)


def list_files(storage: Storage, root: str, work: str) -> Listing:
    """List a folder, or a file as if it lay in a folder by itself.

    The driver's memory does not grow with the number of files: their names go into ``work``, absolute, at once.
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
                digest += _number(entry)
                if is_folder and is_ignored(entry.name):
                    ignored += 1
                    continue
                shown, path = shown_name(entry.name), f"{base}/{entry.name}".removeprefix("file://")
                folder, _, name = shown.rpartition("/")
                found = folders.setdefault(folder, Folder())
                empty.discard(folder)
                found.count += 1
                if len(found.sizes) < FEW_NAMES:
                    found.sizes[name] = entry.size or 0
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
    """Whether a file is called like a CSV file, packed or not."""
    return name.lower().endswith(tuple(f".csv{packed}" for packed in PACKED))


def _kind(name: str) -> str:
    return CSV if is_csv(name) else PARQUET if name.lower().endswith(".parquet") else PICTURES


def is_ignored(name: str) -> bool:
    """Whether a path within a folder is that of a hidden or a system file."""
    return any(part.startswith(".") or part.lower() in SYSTEM_NAMES for part in name.split("/"))


def shown_name(name: str) -> str:
    """A path as it can be printed and stored as UTF-8."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _number(entry: FileEntry) -> int:
    about = os.fsencode(f"{entry.name}\0{entry.size}\0{entry.modified}")
    return int.from_bytes(hashlib.blake2b(about, digest_size=16).digest(), "big")


def _write(writer: pq.ParquetWriter, rows: list[tuple[str, bytes | None, int | None]]) -> None:
    columns = zip(*rows, strict=True) if rows else ([], [], [])
    arrays = [pa.array(list(column), kind) for column, kind in zip(columns, _SCHEMA.types, strict=True)]
    writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA))
    rows.clear()
