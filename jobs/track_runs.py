"""Where a run goes to MLflow, if the user has one: MLflow is imported then, and not before."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jobs.command_line import with_values
from jobs.experiment import SearchExperiment, Tracked
from preprocessing.errors import InputError

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from jobs.tracking import Tracker


def _uri(experiment: Tracked) -> str | None:
    uri = experiment.tracking or os.environ.get("MLFLOW_TRACKING_URI") or None
    if uri is None and experiment.register is not None:
        raise InputError("--register: there is no MLflow to register with: give --tracking, or set MLFLOW_TRACKING_URI")
    return uri


@contextmanager
def track_run(experiment: Tracked, run: str, text: str) -> "Iterator[Tracker | None]":
    """A run of MLflow's for the time of a training; it fails with it.

    Raises:
        InputError: the model is to be registered, and there is no MLflow.
    """
    uri = _uri(experiment)
    if uri is None:
        yield None
        return
    from jobs.tracking import Tracker

    tracker = Tracker(uri, run.rstrip("/").rsplit("/", 1)[-1], text)
    with _failing_with(tracker):
        yield tracker


@contextmanager
def _failing_with(tracker: "Tracker") -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        tracker.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise


@contextmanager
def track_search(experiment: SearchExperiment, text: str) -> "Iterator[Callable[[FrozenTrial], None]]":
    """A run of MLflow's for a search, with one below it for each trial that the block hands on."""
    uri = _uri(experiment)
    if uri is None:
        yield lambda _: None
        return
    from jobs.tracking import Tracker

    advice = "the study goes on without it"
    parent = Tracker(uri, experiment.study.rstrip("/").rsplit("/", 1)[-1], text, advice=advice)

    def track(trial: "FrozenTrial") -> None:
        if parent.lost:
            return
        name, resolved = f"trial {trial.number}", with_values(text, trial.params)[1]
        child = Tracker(uri, name, resolved, parent.run_id, advice)
        for epoch, value in sorted(trial.intermediate_values.items()):
            child.epoch({"epoch": epoch, experiment.search.metric: value})
        child.end("FAILED" if trial.state.name == "FAIL" else "FINISHED")
        parent.lost = child.lost

    with _failing_with(parent):
        yield track
    parent.end("FINISHED")
