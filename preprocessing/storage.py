"""Files wherever Spark reads and writes them, ``file:``, ``hdfs:``, ``s3:`` or ``dbfs:``, by Hadoop's FileSystem."""

import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession


class Storage:
    """The file systems that a Spark session can reach. Paths without a scheme are on Spark's default file system."""

    def __init__(self, spark: SparkSession) -> None:
        self._jvm: Any = spark.sparkContext._jvm
        self._configuration = spark.sparkContext._jsc.hadoopConfiguration()  # type: ignore[attr-defined]

    def _open(self, path: str) -> tuple[Any, Any]:
        java_path = self._jvm.org.apache.hadoop.fs.Path(path)
        system = java_path.getFileSystem(self._configuration)
        if system.getScheme() == "file":
            system.setWriteChecksum(False)  # no hidden .crc file beside every file of a run directory
        return system, java_path

    def absolute(self, path: str) -> str:
        """The path with its scheme, as every executor understands it."""
        system, java_path = self._open(path)
        uri = str(system.makeQualified(java_path).toString())
        # Hadoop writes file:/x, which fsspec, and so Petastorm, takes for a relative path
        return re.sub("^file:/(?!/)", "file:///", uri)

    def exists(self, path: str) -> bool:
        system, java_path = self._open(path)
        return bool(system.exists(java_path))

    def is_folder(self, path: str) -> bool:
        system, java_path = self._open(path)
        return bool(system.exists(java_path) and system.getFileStatus(java_path).isDirectory())

    def make_folder(self, path: str) -> None:
        system, java_path = self._open(path)
        if not system.mkdirs(java_path):
            raise OSError(f"{path}: cannot be made a folder")

    def delete(self, path: str) -> None:
        """Take away a file or folder; none there is no error. ``path`` is absolute."""
        if path.startswith("file:"):
            # not through Spark: after Ctrl-C its JVM has gone first
            shutil.rmtree(local_path(path), ignore_errors=True)
        else:
            system, java_path = self._open(path)
            system.delete(java_path, True)

    def delete_empty(self, path: str) -> None:
        """Take away a folder with nothing in it; object stores have none, and what others have put there stays."""
        if path.startswith("file:"):
            with suppress(OSError):
                local_path(path).rmdir()

    def delete_made(self, folder: str, made: list[str]) -> None:
        """Take away a folder, and those of :meth:`missing_folders` around it that nobody else has put anything into."""
        self.delete(folder)
        for path in made[1:] or [folder.rsplit("/", 1)[0]]:
            self.delete_empty(path)

    def missing_folders(self, path: str) -> list[str]:
        """The folders that making ``path`` would make, the innermost first: a failed job takes them away again."""
        missing = []
        while not self.exists(path):
            missing.append(path)
            path = path.rsplit("/", 1)[0]
        return missing

    def children(self, path: str) -> list[str]:
        """The names of what lies in a folder."""
        system, java_path = self._open(path)
        return [str(status.getPath().getName()) for status in system.listStatus(java_path)]

    def folders(self, path: str) -> list[str]:
        """The names of the folders in a folder, without hidden ones."""
        system, java_path = self._open(path)
        found = (status for status in system.listStatus(java_path) if status.isDirectory())
        names = [str(status.getPath().getName()) for status in found]
        return sorted(name for name in names if not name.startswith((".", "_")))

    def empty_folders(self, path: str) -> list[str]:
        """The folders in a folder, and in those, that have neither files nor folders, hidden ones aside."""
        found = []
        for name in self.folders(path):
            inner = f"{path}/{name}"
            system, java_path = self._open(inner)
            # each name costs a call to the JVM: where there are only pictures, one of them is enough
            if not self._has_children(inner):
                found.append(inner)
            elif system.getContentSummary(java_path).getDirectoryCount() > 1:
                found += self.empty_folders(inner)
        return found

    def _has_children(self, path: str) -> bool:
        system, java_path = self._open(path)
        children = system.listStatusIterator(java_path)
        while children.hasNext():
            if not str(children.next().getPath().getName()).startswith((".", "_")):
                return True
        return False

    def count_files(self, path: str) -> int:
        """How many files there are in a folder and its folders."""
        system, java_path = self._open(path)
        return int(system.getContentSummary(java_path).getFileCount())

    def files(self, path: str) -> list[tuple[str, int, int]]:
        """Each file in a folder and its folders: its path, bytes, and time in milliseconds since 1970."""
        system, java_path = self._open(path)
        files, found = system.listFiles(java_path, True), []
        while files.hasNext():
            status = files.next()
            found.append((str(status.getPath().toString()), status.getLen(), status.getModificationTime()))
        return sorted(found)

    def empty_files(self, path: str, filled: int) -> list[str]:
        """The files of no bytes in a folder and its folders, hidden ones aside; Spark does not list them.

        Args:
            path: the folder.
            filled: how many others there are: where there are no more files, they are not asked one by one.
        """
        if self.count_files(path) == filled:
            return []
        empty = (file for file, size, _ in self.files(path) if size == 0)
        return [file for file in empty if not file.rsplit("/", 1)[-1].startswith((".", "_"))]

    def rename(self, path: str, new: str) -> None:
        system, java_path = self._open(path)
        if not system.rename(java_path, self._jvm.org.apache.hadoop.fs.Path(new)):
            raise OSError(f"{path}: cannot be renamed to {new}")

    def copy(self, path: str, new: str) -> None:
        """Copy a file or folder to a place where nothing is."""
        (system, java_path), (other, other_path) = self._open(path), self._open(new)
        self._jvm.org.apache.hadoop.fs.FileUtil.copy(system, java_path, other, other_path, False, self._configuration)

    def upload(self, local: Path, path: str) -> None:
        """Copy a file or folder of the driver's machine to ``path``."""
        system, java_path = self._open(path)
        system.copyFromLocalFile(False, True, self._jvm.org.apache.hadoop.fs.Path(local.absolute().as_uri()), java_path)

    def download(self, path: str, local: Path) -> None:
        """Copy a file or folder to the driver's machine."""
        system, java_path = self._open(path)
        target = self._jvm.org.apache.hadoop.fs.Path(local.absolute().as_uri())
        system.copyToLocalFile(False, java_path, target, True)

    def read_text(self, path: str) -> str:
        """The content of a small file."""
        with tempfile.TemporaryDirectory() as local:
            copy = Path(local) / "file"
            self.download(path, copy)
            return copy.read_text()

    def size(self, path: str) -> int:
        """Bytes of a file, or of all files in a folder."""
        system, java_path = self._open(path)
        return int(system.getContentSummary(java_path).getLength())


def reason(error: Exception) -> str:
    """What Java or Python says of a failure."""
    java = getattr(error, "java_exception", None)
    return str(java.getMessage() if java is not None else error)


def local_path(uri: str) -> Path:
    """The path of a ``file:`` URI."""
    return Path("/" + uri.removeprefix("file:").lstrip("/"))
