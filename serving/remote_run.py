"""Runs on other file systems than the local one, without Java."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evaluation.runs import METRICS_FILE, NEW, RUN_FILE
from preprocessing.errors import InputError
from preprocessing.file_systems import is_url, local_path, open_url, scheme_of

# What the server reads; the predictions of a run may be large.
_FILES = (RUN_FILE, METRICS_FILE, "model.onnx", "class_names.json", "experiment.yaml")
_FOLDER = "samples"


@contextmanager
def local_run(path: str) -> Iterator[Path]:
    """Yield a local folder with the files of a run that the server needs.

    Args:
        path: a local folder, or a URL of one of :data:`preprocessing.file_systems.SCHEMES`.

    Raises:
        InputError: the file system cannot be used.
    """
    if scheme_of(path) in ("file", "dbfs"):
        yield local_path(path) if is_url(path) else Path(path)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        try:
            _download(path.rstrip("/"), folder)
        except InputError:
            raise
        except Exception as error:  # each file system has its own
            raise InputError(f"{path}: {error}") from error
        yield folder


def _download(url: str, folder: Path) -> None:
    system, path = open_url(url)
    for part in (".", NEW):  # in the second are the new files while a run is replaced
        source = path if part == "." else f"{path}/{part}"
        names = [name for name in _FILES if system.exists(f"{source}/{name}")]
        if "model.onnx" not in names and system.exists(f"{source}/model.keras"):
            names.append("model.keras")  # a run of an earlier version
        if system.exists(f"{source}/{_FOLDER}"):
            names += [f"{_FOLDER}/{file.rsplit('/', 1)[-1]}" for file in system.ls(f"{source}/{_FOLDER}", detail=False)]
        for name in names:
            local = folder / part / name
            local.parent.mkdir(parents=True, exist_ok=True)
            system.get_file(f"{source}/{name}", str(local))
