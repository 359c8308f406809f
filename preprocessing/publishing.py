"""Publication of results: one job at a time writes a folder, and the folder is complete once it has its marker.

The marker is written last, by one atomic operation, and nothing is renamed, so this works on S3 as on a local disk.
A folder without its marker is not a result; ``.unfinished`` in it means that a job is writing it, or was killed while
writing it.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from preprocessing.errors import InputError
from preprocessing.file_systems import local_path
from preprocessing.storage import Storage, reason

LOCK = ".unfinished"
# The lock file in a permanent folder, see :func:`held`.
_PERMANENT_LOCK = ".lock"


class BusyError(RuntimeError):
    """Another job has locked the folder."""


@contextmanager
def claimed(
    storage: Storage, folder: str, wait: Callable[[], None] | None = None, take_over: bool = False, name: str = LOCK
) -> Iterator[bool]:
    """Create a folder, if necessary, and lock it for this job until the block ends, which deletes the lock file.

    A local lock ends with its process, however the process ends. On other file systems the lock file of a killed job
    stays, and cannot be distinguished from that of a running job.

    Args:
        storage: file systems of the Spark session.
        folder: absolute path of the folder.
        wait: called once before waiting for another job. None: do not wait.
        take_over: whether to take over an existing lock file if the folder is not local.
        name: name of the lock file.

    Yields:
        Whether there was a lock file, left by a job that was killed.

    Raises:
        BusyError: Another job has locked the folder. A previous attempt of the same application on YARN has ended.
        OSError: The folder cannot be written.
    """
    if not folder.startswith("file:"):
        lock = f"{folder}/{name}"
        is_left_over = not storage.create(lock)
        if is_left_over and not take_over and not _is_of_previous_attempt(storage, lock):
            raise BusyError(
                f"{lock} exists: another job has created it, and deletes it when it ends unless it is killed"
            )
        try:
            if storage.application is not None:
                storage.write_text(lock, f"{storage.application} {storage.attempt}")
            yield is_left_over
        finally:
            storage.delete(lock)
        return
    path = local_path(folder) / name
    is_left_over, file = _lock(path, wait)
    try:
        yield is_left_over
    finally:
        with suppress(OSError):
            path.unlink()
        file.close()


def _is_of_previous_attempt(storage: Storage, lock: str) -> bool:
    """Whether a lock file is that of this application's driver before YARN started it again."""
    if storage.application is None:
        return False
    application, _, attempt = storage.read_text(lock).partition(" ")
    return application == storage.application and attempt != storage.attempt


@contextmanager
def held(storage: Storage, folder: str, shown: str) -> Iterator[None]:
    """Like :func:`claimed`, for a permanent folder that one job at a time continues.

    On file systems other than the local one, an existing lock is taken over.

    Args:
        storage: file systems of the Spark session.
        folder: absolute path of the folder, which is created if necessary.
        shown: name of the folder in messages.

    Raises:
        InputError: Another job has locked the folder, or the folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(claimed(storage, folder, take_over=True, name=_PERMANENT_LOCK))
        except BusyError:
            raise InputError(f"{shown}: another job runs it") from None
        except OSError as error:
            raise InputError(f"{shown}: cannot be written: {reason(error)}") from error
        yield


def _lock(path: Path, wait: Callable[[], None] | None) -> tuple[bool, IO[str]]:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_left_over = path.exists()
        try:
            file = path.open("a")
        except FileNotFoundError:  # A job that ended has just deleted the folder.
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if wait is None:
                file.close()
                raise BusyError(str(path.parent)) from None
            wait()
            wait = _do_nothing
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # A file system without locks.
            return is_left_over, file
        with suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return is_left_over, file
        file.close()  # The locked file belonged to another job, which has ended and deleted it.


def _do_nothing() -> None:
    """Replaces ``wait`` after its first call."""


@contextmanager
def abandoned(folder: str) -> Iterator[bool]:
    """Whether a killed job has left the folder behind; until the block ends, no job can lock it.

    Always False for folders that are not local, where this cannot be determined.
    """
    path = local_path(folder) / LOCK
    if not folder.startswith("file:"):
        yield False
        return
    try:
        file = path.open("r+")
    except OSError:  # No job has locked it.
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_abandoned = os.path.samestat(path.stat(), os.fstat(file.fileno()))
        except OSError:
            is_abandoned = False
        yield is_abandoned


def clear(storage: Storage, folder: str) -> None:
    """Delete everything in a locked folder except the lock file."""
    for name in storage.children(folder):
        if name != LOCK:
            storage.delete(f"{folder}/{name}")
