"""One folder for all that a job writes temporarily; of a job that was killed, the next one takes it away."""

import atexit
import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX = "handshape-"
LOCK = ".handshape-lock"
# says to a job that TMPDIR is a job's folder already
VARIABLE = "HANDSHAPE_TMPDIR"


def enter_folder() -> tuple[Path, int | None]:
    """Make a job's own folder in the temporary folder, for Python, and by ``TMPDIR`` for every process it starts.

    It is removed at the end of this process. Where this job's starter has made one, it is that one.

    Returns:
        The folder, and the descriptor whose lock says that it is in use; None: the starter's.

    Raises:
        OSError: there is no temporary folder, or nothing can be written to it.
    """
    if os.environ.get(VARIABLE) == tempfile.gettempdir():
        return Path(tempfile.gettempdir()), None
    around = Path(tempfile.gettempdir()).absolute()
    remove_dead(around)
    # under another name until it is locked: as it is, another job would take it for one that nobody uses
    new = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=around))
    lock = os.open(new / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    with suppress(OSError):  # a file system without locks, on which none are taken away
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    folder = new.rename(around / new.name.removeprefix("."))
    atexit.register(remove_folder, folder)
    tempfile.tempdir = str(folder)
    os.environ["TMPDIR"] = os.environ[VARIABLE] = str(folder)
    return folder, lock


def remove_dead(around: Path) -> None:
    """Take away the folders of jobs that no longer run."""
    for folder in around.glob(f"{PREFIX}*"):
        with suppress(OSError):  # no job's, another user's, or in use
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_folder(folder)
            finally:
                os.close(lock)


def remove_folder(folder: Path) -> None:
    """Take a job's folder away; if something stays, the next job finds the lock, and does it."""
    with suppress(OSError):
        for inner in folder.iterdir():
            if inner.is_dir() and not inner.is_symlink():
                shutil.rmtree(inner, ignore_errors=True)
            elif inner.name != LOCK:
                inner.unlink()
        if [inner.name for inner in folder.iterdir()] == [LOCK]:
            shutil.rmtree(folder)
