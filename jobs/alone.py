"""Folders that one job at a time goes on with."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from preprocessing.errors import InputError
from preprocessing.storage import local_path


@contextmanager
def alone(folder: str, shown: str) -> Iterator[None]:
    """Nobody else works in the folder meanwhile, as far as this machine can tell.

    Args:
        folder: absolute; it is made.
        shown: what the user calls it.

    Raises:
        InputError: another job does, or the folder cannot be written.
    """
    if not folder.startswith("file:"):
        yield
        return
    path = local_path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / ".lock").open("w")
    except OSError as error:
        raise InputError(f"{shown}: cannot be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"{shown}: another job runs it") from error
        yield
