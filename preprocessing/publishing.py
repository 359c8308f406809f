"""How results come to be: a folder is written by one job at a time, and is whole when its marker is there.

The marker is written last, by one atomic operation, and nothing is renamed: what holds on a local disk holds on S3.
A folder without its marker is nobody's result; ``.unfinished`` in it says that a job writes it, or was killed while it
did.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from preprocessing.errors import InputError
from preprocessing.storage import Storage, local_path

LOCK = ".unfinished"
# In a folder that stays, and that one job at a time goes on with.
_HELD = ".lock"


class BusyError(RuntimeError):
    """Another job holds the folder."""


@contextmanager
def claimed(
    storage: Storage, folder: str, wait: Callable[[], None] | None = None, take_over: bool = False, name: str = LOCK
) -> Iterator[bool]:
    """Hold a folder, which is made, for this job alone until the block ends; its lock file goes then.

    A local lock ends with the process that holds it, however that ends. Elsewhere the lock file stays after a killed
    job, and is taken for a job's that still runs.

    Args:
        storage: the session's file systems.
        folder: absolute.
        wait: is called before another job is waited for; None: it is not waited for.
        take_over: what a killed job may have left where that cannot be told is taken over.
        name: of the lock file.

    Returns:
        Whether a job that was killed has left its lock file.

    Raises:
        BusyError: another job holds the folder.
        OSError: it cannot be written.
    """
    if not folder.startswith("file:"):
        lock = f"{folder}/{name}"
        left = not storage.create(lock)
        if left and not take_over:
            raise BusyError(f"{lock} is there: another job has made it, and deletes it unless it is killed")
        try:
            yield left
        finally:
            storage.delete(lock)
        return
    path = local_path(folder) / name
    left, file = _lock(path, wait)
    try:
        yield left
    finally:
        with suppress(OSError):
            path.unlink()
        file.close()


@contextmanager
def held(storage: Storage, folder: str, shown: str) -> Iterator[None]:
    """As :func:`claimed`, for a folder that stays and that one job at a time goes on with, as far as this machine can
    tell.

    Args:
        storage: the session's file systems.
        folder: absolute; it is made.
        shown: what the user calls it.

    Raises:
        InputError: another job does, or the folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(claimed(storage, folder, take_over=True, name=_HELD))
        except BusyError:
            raise InputError(f"{shown}: another job runs it") from None
        except OSError as error:
            raise InputError(f"{shown}: cannot be written: {error.strerror}") from error
        yield


def _lock(path: Path, wait: Callable[[], None] | None) -> tuple[bool, IO[str]]:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        left = path.exists()
        try:
            file = path.open("a")
        except FileNotFoundError:  # a job that ends has just taken the folder away
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if wait is None:
                file.close()
                raise BusyError(str(path.parent)) from None
            wait()
            wait = _nothing
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            return left, file
        with suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return left, file
        file.close()  # the lock was another job's, which has ended and taken its file away


def _nothing() -> None:
    """Said already."""


@contextmanager
def abandoned(folder: str) -> Iterator[bool]:
    """Whether a job that has been killed has left the folder, which nobody can claim meanwhile.

    Only of local folders it can be told.
    """
    path = local_path(folder) / LOCK
    if not folder.startswith("file:"):
        yield False
        return
    try:
        file = path.open("r+")
    except OSError:  # nobody has claimed it
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_left = os.path.samestat(path.stat(), os.fstat(file.fileno()))
        except OSError:
            is_left = False
        yield is_left


def clear(storage: Storage, folder: str) -> None:
    """Take away all that lies in a claimed folder."""
    for name in storage.children(folder):
        if name != LOCK:
            storage.delete(f"{folder}/{name}")
