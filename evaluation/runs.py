"""The run directory: what a training leaves, and how it is read again."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = 1
RUN_FILE, METRICS_FILE = "run.json", "metrics.json"
# While a run is replaced, run.json has the field, and the files lie in the folder within the run directory.
REPLACING, NEW = "replacing", ".new"


class RunError(ValueError):
    """A run directory that cannot be used, or not for this."""


@dataclass(frozen=True)
class Run:
    """A finished run: where it lies, what it is (``run.json``) and what it reached (``metrics.json``)."""

    path: str
    about: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def files(self) -> str:
        """Where its files lie."""
        return f"{self.path}/{NEW}" if REPLACING in self.about else self.path

    @property
    def name(self) -> str:
        return self.path.rstrip("/").rsplit("/", 1)[-1]


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Raises: FileNotFoundError, ValueError: it is not there, or no JSON in UTF-8."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_run(folder: Path, path: str) -> Run:
    """Read a run directory.

    Args:
        folder: where its files can be read on this machine.
        path: what the user calls it.

    Raises:
        RunError: it is none, or one of another version.
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
        raise RunError(f"{path}: a run directory of version {version}, this is made for version {VERSION}")
    return Run(path, about, metrics)


def check_job(run: Run, *jobs: str) -> None:
    """Make sure that a run is of one of these jobs.

    Raises:
        RunError: it is of another.
    """
    job = run.about.get("job")
    if job not in jobs:
        raise RunError(f"{run.path}: a run of {job}; one of {' or '.join(jobs)} is needed")


def check_comparable(runs: list[Run]) -> None:
    """Make sure that all runs were judged on the same rows.

    Raises:
        RunError: naming the first run that was not.
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
