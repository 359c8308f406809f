"""Access to files on every file system that Spark reads and writes: ``file:``, ``hdfs:``, ``s3:`` or ``dbfs:``.

Local files are accessed by Python, because Hadoop takes some names for patterns, refuses others, and hides those with a
leading underscore. All other files are accessed by Hadoop's FileSystem.
"""

import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrameReader, SparkSession

from preprocessing.errors import InputError
from preprocessing.file_systems import create_object, is_object_store, local_path
from preprocessing.java import check_java_reads, reads_all_names
from preprocessing.java import reason as java_reason

# S3A: requests of AWS's client per attempt, attempts, and milliseconds until a connection is established.
_FEW_ATTEMPTS = {
    "fs.s3a.attempts.maximum": "2",
    "fs.s3a.retry.limit": "1",
    "fs.s3a.connection.establish.timeout": "5000",
}
# HDFS and S3 take a while for each small file, most of it waiting.
_PARALLEL_COPIES = 8
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")


@dataclass(frozen=True)
class FileEntry:
    """A file in a folder.

    Args:
        name: path within the folder; a byte that is not UTF-8 is a lone surrogate, as in :func:`os.fsdecode`.
        size: size in bytes. None: it is not a regular file, or a broken link.
        modified: modification time in milliseconds since 1970.
        is_link: whether it, or one of its parent folders, is a symbolic link.
        is_folder: whether it is a folder; the size and time of a folder have no meaning.
    """

    name: str
    size: int | None
    modified: int
    is_link: bool = False
    is_folder: bool = False


class Storage:
    """The file systems that a Spark session can reach. Paths without a scheme are on Spark's default file system."""

    def __init__(self, spark: SparkSession) -> None:
        context: Any = spark.sparkContext
        self._gateway, self._jvm = context._gateway, context._jvm
        self._configuration = context._jsc.hadoopConfiguration()
        default = self._jvm.org.apache.hadoop.fs.FileSystem.getDefaultUri(self._configuration)
        self._is_local = default.getScheme() == "file"
        # Without this, every file of a run directory would get a hidden .crc file.
        self._jvm.org.apache.hadoop.fs.FileSystem.getLocal(self._configuration).setWriteChecksum(False)
        self._reads_all_names = reads_all_names(self._jvm)
        self._reached: set[str] = set()
        attempt = context._jsc.sc().applicationAttemptId()
        # YARN starts the driver of cluster mode again, in the same application, if its node or its process is lost.
        self.application: str | None = context.applicationId if attempt.isDefined() else None
        self.attempt: str | None = attempt.get() if attempt.isDefined() else None

    def _open(self, path: str) -> tuple[Any, Any]:
        with _errors_of(path):
            java_path = self._jvm.org.apache.hadoop.fs.Path(path)
            root = java_path.toUri().getAuthority()
            if is_object_store(path) and root not in self._reached:
                self._reach(java_path)
                self._reached.add(root)
            return java_path.getFileSystem(self._configuration), java_path

    def _reach(self, java_path: Any) -> None:
        """Access a bucket for the first time, with an error after seconds if that is not possible.

        With S3A's own settings, which are good for a job that is running, it would try again for minutes.
        """
        configuration = self._jvm.org.apache.hadoop.conf.Configuration(self._configuration)
        for name, value in _FEW_ATTEMPTS.items():
            configuration.set(name, value)
        system = self._jvm.org.apache.hadoop.fs.FileSystem.newInstance(java_path.toUri(), configuration)
        try:
            system.exists(java_path)
        finally:
            system.close()

    def absolute(self, path: str) -> str:
        """The path with its scheme, as every executor understands it, without a trailing slash.

        Raises:
            InputError: The path is empty or not UTF-8, or Java cannot represent it, see
                :func:`preprocessing.java.check_java_reads`.
        """
        if not path:
            raise InputError("the name of a file or folder is empty")
        try:
            path.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(path).decode(errors="backslashreplace")
            raise InputError(f"{shown}: the name is not valid UTF-8, which Spark requires: rename it") from None
        if not self._reads_all_names:
            check_java_reads(self._jvm, path)
        if path.startswith("file:"):
            return f"file://{os.path.normpath(local_path(path))}"
        if self._is_local and not _SCHEME.match(path):
            return f"file://{os.path.abspath(path)}"  # noqa: PTH100  # resolve() would follow links
        system, java_path = self._open(path)
        return str(system.makeQualified(java_path).toString())

    def _local(self, path: str) -> Path | None:
        """The path of a local file or folder; None if it is not local."""
        if not path.startswith("file:") and (_SCHEME.match(path) or not self._is_local):
            return None
        return local_path(self.absolute(path))

    def exists(self, path: str) -> bool:
        """Whether a file or folder exists.

        Raises:
            InputError: The file system cannot be reached, or denies access.
        """
        if (local := self._local(path)) is not None:
            return local.exists()
        system, java_path = self._open(path)
        with _errors_of(path):
            return bool(system.exists(java_path))

    def is_folder(self, path: str) -> bool:
        """Whether a folder exists. It raises the same errors as :meth:`exists`."""
        if (local := self._local(path)) is not None:
            return local.is_dir()
        system, java_path = self._open(path)
        with _errors_of(path):
            return bool(system.exists(java_path) and system.getFileStatus(java_path).isDirectory())

    def make_folder(self, path: str) -> None:
        if (local := self._local(path)) is not None:
            local.mkdir(parents=True, exist_ok=True)
            return
        system, java_path = self._open(path)
        if not system.mkdirs(java_path):
            raise OSError(f"{path}: the folder cannot be created")

    def delete(self, path: str) -> None:
        """Delete a file, link or folder, if it exists."""
        if (local := self._local(path)) is None:
            system, java_path = self._open(path)
            system.delete(java_path, True)
        elif local.is_dir() and not local.is_symlink():
            shutil.rmtree(local, ignore_errors=True)
        else:
            with suppress(OSError):
                local.unlink()

    def delete_empty(self, path: str) -> None:
        """Delete a folder if it is empty. S3A represents an empty folder by an object."""
        if (local := self._local(path)) is not None:
            with suppress(OSError):
                local.rmdir()
            return
        if _is_root(path):
            return
        system, java_path = self._open(path)
        with suppress(Py4JJavaError):  # it does not exist, or another job has just written there
            if not system.listStatus(java_path):
                system.delete(java_path, False)

    def delete_made(self, folder: str, created: list[str]) -> None:
        """Delete a folder, and those of its parents that are empty and that :meth:`missing_folders` had returned."""
        self.delete(folder)
        for path in created[1:] or [folder.rsplit("/", 1)[0]]:
            self.delete_empty(path)

    def missing_folders(self, path: str) -> list[str]:
        """The folders that would be created with ``path``, innermost first: a failed job deletes them again."""
        missing = []
        while not _is_root(path) and not self.exists(path):
            missing.append(path)
            path = path.rsplit("/", 1)[0]
        return missing

    def children(self, path: str) -> list[str]:
        """The names of the files and folders directly in a folder."""
        if (local := self._local(path)) is not None:
            return sorted(child.name for child in local.iterdir())
        system, java_path = self._open(path)
        return sorted(str(status.getPath().getName()) for status in system.listStatus(java_path))

    def walk(self, path: str, follow_links: bool = True) -> Iterator[FileEntry]:
        """Every file in a folder and its subfolders, or the single file ``path``, in arbitrary order.

        Local folders are included, each before its contents. Links that are not followed have no size.
        """
        if (local := self._local(path)) is not None:
            yield from _walk(local, follow_links)
            return
        system, java_path = self._open(path)
        files = system.listFiles(java_path, True)
        start = len(str(system.makeQualified(java_path).toString())) + 1
        while files.hasNext():
            status = files.next()
            file_path = status.getPath()
            name = str(file_path.toString())[start:] or str(file_path.getName())
            yield FileEntry(name, status.getLen(), status.getModificationTime())

    def rename(self, path: str, new: str) -> None:
        """Rename a file or folder; the new name must not exist yet. On S3 this operation is not atomic."""
        if (local := self._local(path)) is not None:
            local.rename(local_path(self.absolute(new)))
            return
        system, java_path = self._open(path)
        if not system.rename(java_path, self._jvm.org.apache.hadoop.fs.Path(new)):
            raise OSError(f"{path}: cannot be renamed to {new}")

    def copy(self, path: str, new: str) -> None:
        """Copy a file, or the files of a folder and its subfolders; other files in an existing folder stay."""
        local, other_local = self._local(path), self._local(new)
        if local is not None and other_local is not None:
            _copy(local, other_local)
        elif self.is_folder(path):
            names = [entry.name for entry in self.walk(path) if not entry.is_folder]
            with ThreadPoolExecutor(_PARALLEL_COPIES) as pool:
                list(pool.map(lambda name: self._copy_file(f"{path}/{name}", f"{new}/{name}"), names))
        else:
            self._copy_file(path, new)

    def _copy_file(self, path: str, new: str) -> None:
        (system, java_path), (other, other_path) = self._open(path), self._open(new)
        self._jvm.org.apache.hadoop.fs.FileUtil.copy(system, java_path, other, other_path, False, self._configuration)

    def upload(self, local: Path, path: str) -> None:
        """Copy a file or folder from the driver's machine to ``path``."""
        self.copy(f"file://{local.absolute()}", path)

    def download(self, path: str, local: Path) -> None:
        """Copy a file or folder to the driver's machine."""
        if (source := self._local(path)) is not None:
            _copy(source, local)
            return
        system, java_path = self._open(path)
        target = self._jvm.org.apache.hadoop.fs.Path(f"file://{local.absolute()}")
        system.copyToLocalFile(False, java_path, target, True)

    def read_text(self, path: str) -> str:
        """Read a small UTF-8 file."""
        if (local := self._local(path)) is not None:
            return local.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "file"
            self.download(path, copy)
            return copy.read_text(encoding="utf-8")

    def write_text(self, path: str, text: str) -> None:
        """Write a small UTF-8 file atomically; an existing file is replaced."""
        temporary = f"{path.rsplit('/', 1)[0]}/.{uuid.uuid4().hex}"
        if (local := self._local(path)) is not None:
            local_temporary = local_path(temporary)
            try:
                with local_temporary.open("w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                local_temporary.replace(local)
            except BaseException:
                local_temporary.unlink(missing_ok=True)
                raise
            return
        system, java_path = self._open(path)
        if is_object_store(self.absolute(path)):  # A file appears when it is closed.
            _write(system, java_path, text)
            return
        hadoop = self._jvm.org.apache.hadoop.fs
        _write(system, hadoop.Path(temporary), text)
        # The only way to replace a file atomically in HDFS.
        options = self._gateway.new_array(hadoop.Options.Rename, 1)
        options[0] = hadoop.Options.Rename.OVERWRITE
        system.rename(hadoop.Path(temporary), java_path, options)

    def create(self, path: str) -> bool:
        """Create an empty file, unless it exists; return whether it was created.

        This is atomic on HDFS, on S3 and on those services with S3's interface that know conditional requests.
        """
        if is_object_store(path) and (created := create_object(path)) is not None:
            return created
        system, java_path = self._open(path)
        return bool(system.createNewFile(java_path))

    def size(self, path: str) -> int:
        """The size in bytes of a file, or of all files in a folder."""
        if self._local(path) is not None:
            return sum(entry.size or 0 for entry in self.walk(path))
        system, java_path = self._open(path)
        return int(system.getContentSummary(java_path).getLength())


@contextmanager
def _errors_of(path: str) -> Iterator[None]:
    """Name the path in errors of Java."""
    try:
        yield
    except Py4JJavaError as error:
        message = java_reason(error)
        # S3's answer to expired credentials, if the request is one whose answer has no text
        hint = ": are the credentials expired?" if message == "Bad Request" else ""
        raise InputError(f"{path}: {message}{hint}") from error


def _is_root(path: str) -> bool:
    """Whether an absolute path is the root of its file system, such as a bucket."""
    return re.fullmatch(r"[^:/]+:(//[^/]*)?/?", path) is not None


def _write(system: Any, java_path: Any, text: str) -> None:
    stream = system.create(java_path, True)
    stream.write(text.encode())
    stream.close()


def reader(spark: SparkSession) -> DataFrameReader:
    """Spark's reader, with paths taken literally: ``[2]`` in a path is not a pattern.

    The option is internal to Spark, which sets it for paths that it has listed itself (``DataSource.GLOB_PATHS_KEY``).
    """
    return spark.read.option("__globPaths__", "false")


def _walk(path: Path, follow_links: bool) -> Iterator[FileEntry]:
    """The files of a local folder. A link to a folder is followed unless the folder contains the link."""
    if not path.is_dir():
        yield _entry(path, path.name, path.is_symlink())
        return
    waiting: list[tuple[str, bool, frozenset[tuple[int, int]]]] = [("", False, frozenset())]
    while waiting:
        folder, is_linked, parents = waiting.pop()
        try:
            status = (path / folder).stat()
            entries = list(os.scandir(path / folder))
        except OSError as error:
            if follow_links and not isinstance(error, FileNotFoundError):
                raise
            continue  # The folder was deleted meanwhile, or, if links are not followed, it is not readable.
        identity = (status.st_dev, status.st_ino)
        if identity in parents:
            continue
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            is_link = is_linked or entry.is_symlink()
            if is_link and not follow_links:
                with suppress(FileNotFoundError):
                    yield FileEntry(name, None, int(1000 * entry.stat(follow_symlinks=False).st_mtime), is_link)
            elif _is_dir(entry):
                yield FileEntry(name, None, 0, is_link, is_folder=True)
                waiting.append((name, is_link, parents | {identity}))
            else:
                yield _entry(entry, name, is_link)


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link that points to itself.
        return False


def _entry(file: Path | os.DirEntry[str], name: str, is_link: bool) -> FileEntry:
    try:
        status = file.stat()
    except OSError:  # A broken link.
        return FileEntry(name, None, 0, is_link)
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    return FileEntry(name, size, status.st_mtime_ns // 1_000_000, is_link)


def _copy(path: Path, new: Path) -> None:
    """Copy a file or folder. Unlike :func:`shutil.copytree`, leave out permissions: a temporary folder is private."""
    if path.is_dir():
        new.mkdir(parents=True, exist_ok=True)
        for child in path.iterdir():
            _copy(child, new / child.name)
    else:
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, new)


def reason(error: Exception) -> str:
    """The reason that Java or Python gives for a failure."""
    return error.strerror if isinstance(error, OSError) and error.strerror else java_reason(error)
