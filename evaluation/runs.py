"""The run directory: the files of a finished job, and how they are read."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = 3
RUN_FILE, METRICS_FILE = "run.json", "metrics.json"
# While a run is being replaced, run.json has the field REPLACING, and the new files are in the subfolder NEW.
REPLACING, NEW = "replacing", ".new"


class RunError(ValueError):
    """A run directory is invalid, or it cannot be used for the operation."""


@dataclass(frozen=True)
class Run:
    """A finished run: its path, its description (``run.json``) and its metrics (``metrics.json``)."""

    path: str
    about: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def files(self) -> str:
        """The folder of the run's files, which differs from ``path`` while the run is being replaced."""
        return f"{self.path}/{NEW}" if REPLACING in self.about else self.path

    @property
    def name(self) -> str:
        return self.path.rstrip("/").rsplit("/", 1)[-1]


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not JSON in UTF-8.
    """
    return json.loads(path.read_text(encoding="utf-8"))


def read_run(folder: Path, path: str) -> Run:
    """Read a run directory.

    Args:
        folder: the local folder with the run's files.
        path: the run directory as the user gave it.

    Raises:
        RunError: the folder is not a run directory, or has an unsupported version.
    """
    if not folder.is_dir():
        raise RunError(f"{path}: no such run directory")
    try:
        about = read_json(folder / RUN_FILE)
        metrics = read_json(Path(Run(str(folder), about, {}).files) / METRICS_FILE)
        version = about["version"]
    except FileNotFoundError as error:
        name = Path(error.filename).name
        unfinished = ", which is written last: its job has not finished" if name == RUN_FILE else ""
        raise RunError(f"{path}: not a run directory, it has no {name}{unfinished}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{path}: not a run directory, {RUN_FILE} or {METRICS_FILE} cannot be read: {error}") from error
    if version != VERSION:
        job = "train_random_forest" if about.get("job") == "forest" else "train_cnn"
        raise RunError(
            f"{path}: run directory version {version} is not supported, expected version {VERSION}; train it again:"
            f" spark-submit jobs/{job}.py with the settings of {path}/experiment.yaml"
        )
    return Run(path, about, metrics)


def check_job(run: Run, *jobs: str) -> None:
    """Check that a run was written by one of these jobs.

    Raises:
        RunError: another job wrote the run.
    """
    job = run.about.get("job")
    if job not in jobs:
        raise RunError(f"{run.path}: a run of {job}; one of {' or '.join(jobs)} is needed")


def check_comparable(runs: list[Run]) -> None:
    """Check that all runs were evaluated on the same test rows.

    Raises:
        RunError: a run has another test set; the message names the first such run.
    """
    first = runs[0]
    for run in runs[1:]:
        if run.metrics["test"]["fingerprint"] != first.metrics["test"]["fingerprint"]:
            raise RunError(
                f"{first.path} and {run.path} have different test sets"
                f" ({_test_set(first)}; {_test_set(run)}): only runs on the same test rows can be compared"
            )


def _test_set(run: Run) -> str:
    return f"{run.metrics['rows']['test']:,} rows of {run.metrics['source']}"
