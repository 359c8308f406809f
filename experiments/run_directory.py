"""The folder that a job writes, on any file system that Spark writes to. It is complete once it contains ``run.json``.

A new run is written in place, with ``run.json`` last. A run that replaces another is written to the subfolder ``.new``.
Then ``run.json`` is replaced atomically, to state that the files are there, until they have replaced the old ones.
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
from experiments.packages import ROOT, run_location
from preprocessing.errors import InputError
from preprocessing.publishing import LOCK, BusyError, claimed, clear
from preprocessing.storage import Storage, reason

VERSIONS = (
    "pyspark",
    "horovod",
    "tensorflow-cpu",
    "tensorflow-cpu-aws",
    "tensorflow",
    "keras",
    "petastorm",
    "pyarrow",
    "numpy",
    "pandas",
)
# Subfolder for a job's temporary files; a published run does not have it.
WORK = ".work"


@dataclass(frozen=True)
class StagedRun:
    """A run directory in progress.

    Args:
        uri: folder for the files that Spark writes.
        local: local folder for the files that Python writes.
        extra_fields: additional fields of ``run.json``.
        on_published: functions to call when the run has been published.
    """

    uri: str
    local: Path
    extra_fields: dict[str, Any] = field(default_factory=dict)
    on_published: list[Callable[[], None]] = field(default_factory=list)

    @property
    def work(self) -> str:
        """The absolute path of a folder for temporary files, to which every executor has access."""
        return f"{self.uri}/{WORK}"


def default_run(job: str) -> str:
    return f"runs/{job}-{datetime.now():%Y%m%d-%H%M%S}"


def describe_job(job: str) -> dict[str, Any]:
    """Return the content of ``run.json``: format version, job, time, Git commit, versions of Python and packages."""
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
    """Stage a run directory. It is published as ``path`` when the block ends, and deleted if the block fails.

    Args:
        storage: the session's file systems.
        path: path of the run directory.
        overwrite: whether to replace an existing run, as soon as the new one is complete.
        job: name of the job for ``run.json``, if the block does not write this file.
        resume: whether to take over the files that a killed job has left.
        inputs: absolute paths that the job reads, which must not be overwritten.

    Raises:
        InputError: ``path`` already exists, another job writes it, or it cannot be written.
    """
    target = storage.absolute(path)
    for input_path in inputs:
        if f"{input_path}/".startswith(f"{target}/"):
            raise InputError(f"{path}: {input_path} is read by this job and would be overwritten: give another name")
    check_target(storage, path, overwrite)
    created = storage.missing_folders(target)
    with ExitStack() as stack:
        for folder in reversed(created):
            stack.callback(storage.delete_empty, folder)
        try:
            is_left_over = stack.enter_context(claimed(storage, target, take_over=overwrite or resume))
        except BusyError as error:
            remedy = "" if target.startswith("file:") else f" ({error}), or --overwrite"
            raise InputError(f"{path}: another job writes this run; give another name{remedy}") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {reason(error)}") from error
        _finish_replacement(storage, target)
        # another job may have published a run since the first check
        check_target(storage, path, overwrite)
        yield from _write_claimed(storage, target, job, is_left_over)


def _write_claimed(storage: Storage, target: str, job: str, is_left_over: bool) -> Iterator[StagedRun]:
    """Yield a staged run in a claimed folder, and publish what the block has written."""
    replaces = _has_run_json(storage, target)
    if is_left_over and not replaces:
        clear(storage, target)
    folder = f"{target}/{NEW}" if replaces else target
    local = Path(tempfile.mkdtemp())
    try:
        storage.make_folder(folder)
        staged = StagedRun(folder, local)
        yield staged
        storage.delete(f"{folder}/{WORK}")
        about = read_json(local / RUN_FILE) if (local / RUN_FILE).exists() else describe_job(job)
        write_json(local / RUN_FILE, about | staged.extra_fields)
        _publish(storage, local, folder, target)
        for callback in staged.on_published:
            callback()
    except BaseException:
        if replaces:
            _finish_replacement(storage, target)
        elif not _has_run_json(storage, target):
            clear(storage, target)
        raise
    finally:
        shutil.rmtree(local, ignore_errors=True)


def _publish(storage: Storage, local: Path, folder: str, target: str) -> None:
    about = read_json(local / RUN_FILE)
    (local / RUN_FILE).unlink()
    storage.upload(local, folder)
    if folder == target:
        _write_run_json(storage, target, about)
        return
    _write_run_json(storage, folder, about)
    # from here on readers use the new files
    _write_run_json(storage, target, about | {REPLACING: True})
    _finish_replacement(storage, target)


def _finish_replacement(storage: Storage, target: str) -> None:
    """Finish or undo the replacement of a run's files, which may have been interrupted when a job was killed.

    It can be repeated safely: the new files stay in ``.new`` until ``run.json`` states that they are in place.
    """
    new, about = f"{target}/{NEW}", read_run_json(storage, target)
    if REPLACING in about:
        if not storage.is_folder(new):
            raise InputError(f"{target}: its {NEW} is missing, in which the files of an unfinished replacement are")
        storage.delete(f"{new}/{RUN_FILE}")  # copied with the others, it would state too early that all are there
        for name in storage.children(target):
            if name not in (NEW, LOCK, RUN_FILE):
                storage.delete(f"{target}/{name}")
        storage.copy(new, target)
        _write_run_json(storage, target, {name: value for name, value in about.items() if name != REPLACING})
    storage.delete(new)


def _has_run_json(storage: Storage, target: str) -> bool:
    return storage.exists(f"{target}/{RUN_FILE}")


def _write_run_json(storage: Storage, target: str, about: dict[str, Any]) -> None:
    storage.write_text(f"{target}/{RUN_FILE}", json.dumps(about, indent=2, ensure_ascii=False) + "\n")


def read_run_json(storage: Storage, target: str) -> dict[str, Any]:
    """Read ``run.json``. The result is empty if the file does not exist or is damaged."""
    try:
        about = json.loads(storage.read_text(f"{target}/{RUN_FILE}")) if _has_run_json(storage, target) else {}
    except (ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def check_target(storage: Storage, path: str, overwrite: bool) -> None:
    """Check that a run directory can be written.

    Raises:
        InputError: there is a run, and it must not be overwritten, or something else.
    """
    target = storage.absolute(path)
    if not storage.exists(target):
        return
    if not storage.is_folder(target):
        raise InputError(f"{path}: this is a file; give the name of a folder that does not exist yet")
    if _has_run_json(storage, target):
        if not overwrite:
            raise InputError(f"{path}: a run exists already; give another --run, or --overwrite to replace it")
        return
    names = storage.children(target)
    if names and LOCK not in names:
        raise InputError(f"{path}: the folder contains {names[0]} and is not a run, so it is kept: give another name")


def open_runs(storage: Storage, paths: list[str]) -> list[Run]:
    """Read the descriptions and metrics of finished runs, on any file system.

    Raises:
        RunError: a path is not a run directory.
    """
    runs = []
    for path in map(run_location, paths):
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
        with suppress(PackageNotFoundError):  # the name of TensorFlow's package depends on GPU support
            yield name, version(name)


def _git_commit() -> str | None:
    if os.environ.get("HANDSHAPE_COMMIT"):
        return os.environ["HANDSHAPE_COMMIT"]  # set in the container image, which has no .git
    git = shutil.which("git")
    if git is None or not Path(ROOT / ".git").exists():
        return None
    process = subprocess.run([git, "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return process.stdout.strip() or None
