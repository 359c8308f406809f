"""A run directory that appears whole or not at all, on any file system that Spark writes to."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from evaluation.runs import METRICS_FILE, RUN_FILE, Run, RunError, read_run
from preprocessing.errors import InputError
from preprocessing.storage import Storage, reason


@dataclass(frozen=True)
class StagedRun:
    """A run directory in the making: ``uri`` is where Spark writes, ``local`` where Python does."""

    uri: str
    local: Path


def default_run(job: str) -> str:
    return f"runs/{job}-{datetime.now():%Y%m%d-%H%M%S}"


@contextmanager
def staged_run(storage: Storage, path: str, overwrite: bool) -> Iterator[StagedRun]:
    """Everything written to the staged run becomes ``path`` when the block ends, and is removed when it fails.

    Args:
        storage: the session's file systems.
        path: the run directory.
        overwrite: replace what is there, once the new one is whole.

    Raises:
        InputError: there is something at ``path``, or its folder cannot be written.
    """
    target = storage.absolute(path)
    parent, name = target.rstrip("/").rsplit("/", 1)
    if storage.exists(target) and not overwrite:
        raise InputError(f"{path}: there is a run already; give another --run, or --overwrite to replace it")
    staged = f"{parent}/.{name}.{uuid.uuid4().hex}"
    made = storage.missing_folders(parent)
    try:
        storage.make_folder(staged)
    except Exception as error:
        raise InputError(f"{path}: {parent} cannot be written: {reason(error)}") from error
    local = Path(tempfile.mkdtemp())
    try:
        yield StagedRun(staged, local)
        _publish(storage, local, staged, target)
    except BaseException:
        storage.delete(staged)
        for folder in made:
            storage.delete_empty(folder)
        raise
    finally:
        shutil.rmtree(local, ignore_errors=True)


def _publish(storage: Storage, local: Path, staged: str, target: str) -> None:
    for item in sorted(local.iterdir()):
        storage.upload(item, f"{staged}/{item.name}")
    if storage.exists(target):
        replaced = f"{staged}.replaced"
        storage.rename(target, replaced)
        try:
            storage.rename(staged, target)
        except BaseException:
            storage.rename(replaced, target)
            raise
        storage.delete(replaced)
    else:
        storage.rename(staged, target)


def delete_staged(storage: Storage, target: str) -> None:
    """Take away what a killed job has left of the run directory ``target``, an absolute path.

    A finished run that it was about to replace is put back.
    """
    parent, name = target.rsplit("/", 1)
    children = storage.children(parent) if storage.exists(parent) else []
    for child in (child for child in children if child.startswith(f".{name}.")):
        if child.endswith(".replaced") and not storage.exists(target):
            storage.rename(f"{parent}/{child}", target)
        else:
            storage.delete(f"{parent}/{child}")


def open_runs(storage: Storage, paths: list[str]) -> list[Run]:
    """Read finished runs wherever they lie.

    Raises:
        RunError: one is no run directory.
    """
    runs = []
    for path in paths:
        if not storage.is_folder(path):
            raise RunError(f"{path}: no such run directory")
        with tempfile.TemporaryDirectory() as local:
            for name in (RUN_FILE, METRICS_FILE):
                if storage.exists(f"{path}/{name}"):
                    storage.download(f"{path}/{name}", Path(local) / name)
            runs.append(read_run(Path(local), path.rstrip("/")))
    return runs
