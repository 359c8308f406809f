"""The folder that a job leaves, on any file system that Spark writes to: whole when its ``run.json`` is there.

A new one is written in its place, ``run.json`` last. One that replaces another is written into ``.new`` within it;
``run.json`` then says that the files lie there, by one atomic operation, until they have been copied over the old ones.
"""

import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evaluation.runs import (
    METRICS_FILE,
    NEW,
    REPLACING,
    RUN_FILE,
    VERSION,
    Run,
    RunError,
    read_json,
    read_run,
    write_json,
)
from jobs.session import ROOT
from preprocessing.errors import InputError
from preprocessing.publishing import LOCK, BusyError, claimed, clear
from preprocessing.storage import Storage, reason

VERSIONS = ("pyspark", "horovod", "tensorflow-cpu", "tensorflow", "keras", "petastorm", "pyarrow", "numpy", "pandas")
# What a job puts down on the way; no run has it.
WORK = ".work"


@dataclass(frozen=True)
class StagedRun:
    """A run directory in the making.

    Args:
        uri: where Spark writes.
        local: where Python does.
        more: goes into ``run.json`` beside what the job writes there.
        published: is called once the run is whole.
    """

    uri: str
    local: Path
    more: dict[str, Any] = field(default_factory=dict)
    published: list[Callable[[], None]] = field(default_factory=list)

    @property
    def work(self) -> str:
        """A folder for what is needed on the way, absolute; every executor sees it."""
        return f"{self.uri}/{WORK}"


def default_run(job: str) -> str:
    return f"runs/{job}-{datetime.now():%Y%m%d-%H%M%S}"


def about_job(job: str) -> dict[str, Any]:
    """What ``run.json`` says of a folder: its version, what wrote it, when, and with which code and packages."""
    return {
        "version": VERSION,
        "job": job,
        "created": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "git_commit": _git_commit(),
        "versions": {"python": platform.python_version()} | dict(_versions()),
    }


@contextmanager
def staged_run(
    storage: Storage, path: str, overwrite: bool, job: str, resume: bool = False, inputs: Sequence[str] = ()
) -> Iterator[StagedRun]:
    """Everything written to the staged run becomes ``path`` when the block ends, and is removed when it fails.

    Args:
        storage: the session's file systems.
        path: the folder.
        overwrite: replace what is there, once the new one is whole.
        job: goes into ``run.json``, where the block writes none.
        resume: a job that was killed is gone on with: what it has left is taken over.
        inputs: what the job reads, absolute: it is not written over.

    Raises:
        InputError: there is something at ``path``, another job writes it, or it cannot be written.
    """
    target = storage.absolute(path)
    for taken in inputs:
        if f"{taken}/".startswith(f"{target}/"):
            raise InputError(f"{path}: {taken} is read by this job, and lies there: give another name")
    _check_target(storage, path, target, overwrite)
    made = storage.missing_folders(target)
    with ExitStack() as stack:
        for folder in reversed(made):
            stack.callback(storage.delete_empty, folder)
        try:
            left = stack.enter_context(claimed(storage, target, take_over=overwrite or resume))
        except BusyError as error:
            left_over = "" if target.startswith("file:") else f" ({error}), or --overwrite"
            raise InputError(f"{path}: another job writes this run; give another name{left_over}") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {reason(error)}") from error
        _finish_replacement(storage, target)
        # another job may have been as quick
        _check_target(storage, path, target, overwrite)
        yield from _written(storage, target, job, left)


def _written(storage: Storage, target: str, job: str, left: bool) -> Iterator[StagedRun]:
    """In a claimed folder: what the block writes, and its publication."""
    replaces = _is_whole(storage, target)
    if left and not replaces:
        clear(storage, target)
    folder = f"{target}/{NEW}" if replaces else target
    local = Path(tempfile.mkdtemp())
    try:
        storage.make_folder(folder)
        staged = StagedRun(folder, local)
        yield staged
        storage.delete(f"{folder}/{WORK}")
        about = read_json(local / RUN_FILE) if (local / RUN_FILE).exists() else about_job(job)
        write_json(local / RUN_FILE, about | staged.more)
        _publish(storage, local, folder, target)
        for call in staged.published:
            call()
    except BaseException:
        if replaces:
            _finish_replacement(storage, target)
        elif not _is_whole(storage, target):
            clear(storage, target)
        raise
    finally:
        shutil.rmtree(local, ignore_errors=True)


def _publish(storage: Storage, local: Path, folder: str, target: str) -> None:
    for item in sorted(local.iterdir()):
        if item.name != RUN_FILE or folder != target:
            storage.upload(item, f"{folder}/{item.name}")
    about = read_json(local / RUN_FILE)
    if folder == target:
        _write_about(storage, target, about)
        return
    # from here on the new files are the run's
    _write_about(storage, target, about | {REPLACING: True})
    _finish_replacement(storage, target)


def _finish_replacement(storage: Storage, target: str) -> None:
    """Bring a folder whose files are being replaced, or were when a job was killed, to its old state or its new one.

    What is done twice does no harm: the new files stay in ``.new`` until ``run.json`` says that they are in place.
    """
    new, about = f"{target}/{NEW}", read_about(storage, target)
    if REPLACING in about:
        names = [name for name in storage.children(new) if name != RUN_FILE]
        for name in names:
            storage.delete(f"{target}/{name}")
            storage.copy(f"{new}/{name}", f"{target}/{name}")
        for name in storage.children(target):
            if name not in (*names, NEW, LOCK, RUN_FILE):
                storage.delete(f"{target}/{name}")
        _write_about(storage, target, {name: value for name, value in about.items() if name != REPLACING})
    storage.delete(new)


def _is_whole(storage: Storage, target: str) -> bool:
    return storage.exists(f"{target}/{RUN_FILE}")


def _write_about(storage: Storage, target: str, about: dict[str, Any]) -> None:
    storage.write_text(f"{target}/{RUN_FILE}", json.dumps(about, indent=2, ensure_ascii=False) + "\n")


def read_about(storage: Storage, target: str) -> dict[str, Any]:
    """What ``run.json`` says; nothing where it is not there, or damaged."""
    try:
        about = json.loads(storage.read_text(f"{target}/{RUN_FILE}")) if _is_whole(storage, target) else {}
    except (ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def _check_target(storage: Storage, path: str, target: str, overwrite: bool) -> None:
    if not storage.exists(target):
        return
    if not storage.is_folder(target):
        raise InputError(f"{path}: a file; give the name of a folder that is not there yet")
    if _is_whole(storage, target):
        if not overwrite:
            raise InputError(f"{path}: there is a run already; give another --run, or --overwrite to replace it")
        return
    names = storage.children(target)
    if names and LOCK not in names:
        raise InputError(f"{path}: a folder with {names[0]} in it, and no run: it is not replaced, give another name")


def open_runs(storage: Storage, paths: list[str]) -> list[Run]:
    """Read finished runs wherever they lie.

    Raises:
        RunError: one is no run directory.
    """
    runs = []
    for path in paths:
        if not storage.is_folder(path):
            raise RunError(f"{path}: no such run directory")
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder)
            (local / NEW).mkdir()
            for name in (RUN_FILE, METRICS_FILE, f"{NEW}/{METRICS_FILE}"):
                if storage.exists(f"{path}/{name}"):
                    storage.download(f"{path}/{name}", local / name)
            runs.append(read_run(local, path.rstrip("/")))
    return runs


def _versions() -> Iterator[tuple[str, str]]:
    for name in VERSIONS:
        with suppress(PackageNotFoundError):  # TensorFlow goes by another name where it has GPUs
            yield name, version(name)


def _git_commit() -> str | None:
    if os.environ.get("HANDSHAPE_COMMIT"):
        return os.environ["HANDSHAPE_COMMIT"]  # of an image, which has no .git
    git = shutil.which("git")
    if git is None or not Path(ROOT / ".git").exists():
        return None
    said = subprocess.run([git, "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return said.stdout.strip() or None
