"""The folder for all temporary files of a job. If a job is killed, the next job deletes its folder."""

import atexit
import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX = "handshape-"
LOCK = ".handshape-lock"
# The environment variable by which a job recognizes that TMPDIR is already the folder of a job.
VARIABLE = "HANDSHAPE_TMPDIR"


def enter_folder() -> tuple[Path, int | None]:
    """Create a folder for this job in the system's temporary folder, and use it in Python and, by ``TMPDIR``, in child
    processes.

    The folder is deleted when this process ends. If the parent process has created a job's folder, that one is used.

    Returns:
        The folder, and the file descriptor whose lock marks the folder as in use, or None if the parent holds the lock.

    Raises:
        OSError: there is no temporary folder, or it cannot be written.
    """
    if os.environ.get(VARIABLE) == tempfile.gettempdir():
        return Path(tempfile.gettempdir()), None
    parent = Path(tempfile.gettempdir()).absolute()
    remove_abandoned_folders(parent)
    # the folder gets its name after it is locked: another job would delete an unlocked folder of this name
    hidden = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=parent))
    lock = os.open(hidden / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    with suppress(OSError):  # a file system without locks, on which no folder is ever considered abandoned
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    folder = hidden.rename(parent / hidden.name.removeprefix("."))
    atexit.register(remove_folder, folder)
    tempfile.tempdir = str(folder)
    os.environ["TMPDIR"] = os.environ[VARIABLE] = str(folder)
    return folder, lock


def remove_abandoned_folders(parent: Path) -> None:
    """Delete the folders of jobs that are no longer running."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # not the folder of a job, another user's, or in use
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_folder(folder)
            finally:
                os.close(lock)


def remove_folder(folder: Path) -> None:
    """Delete the folder of a job. If something cannot be deleted, the lock file stays, and the next job tries again."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LOCK:
                path.unlink()
        if [path.name for path in folder.iterdir()] == [LOCK]:
            shutil.rmtree(folder)
