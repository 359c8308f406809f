"""Tracking of runs with MLflow, which is imported only if the user tracks runs."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from experiments.command_line import with_overrides
from experiments.configuration import SearchExperiment, TrackedExperiment
from preprocessing.errors import InputError

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from tracking.mlflow_tracker import Tracker


def _uri(experiment: TrackedExperiment) -> str | None:
    uri = experiment.tracking or os.environ.get("MLFLOW_TRACKING_URI") or None
    if uri is None and experiment.register is not None:
        raise InputError("--register: no MLflow server is given: give --tracking, or set MLFLOW_TRACKING_URI")
    return uri


@contextmanager
def track_run(experiment: TrackedExperiment, run: str) -> "Iterator[Tracker | None]":
    """Start an MLflow run for a training. It is marked as failed if the block fails.

    Yields:
        The tracker, which the caller finishes, or None if the user does not track runs.

    Raises:
        InputError: a model is to be registered, but no MLflow server is given.
    """
    uri = _uri(experiment)
    if uri is None:
        yield None
        return
    from tracking.mlflow_tracker import Tracker

    tracker = Tracker(uri, run.rstrip("/").rsplit("/", 1)[-1], experiment.to_yaml())
    with _marked_as_failed_on_error(tracker):
        yield tracker


@contextmanager
def _marked_as_failed_on_error(tracker: "Tracker") -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        tracker.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise


@contextmanager
def track_search(experiment: SearchExperiment) -> "Iterator[Callable[[FrozenTrial], None]]":
    """Start an MLflow run for a search.

    Yields:
        A function that adds a finished trial, as a child run.
    """
    uri = _uri(experiment)
    if uri is None:
        yield lambda _: None
        return
    from tracking.mlflow_tracker import Tracker

    advice = "the study goes on without it"
    parent = Tracker(uri, experiment.study.rstrip("/").rsplit("/", 1)[-1], experiment.to_yaml(), advice=advice)

    def track(trial: "FrozenTrial") -> None:
        if parent.lost:
            return
        resolved = with_overrides(experiment, trial.params).to_yaml()
        child = Tracker(uri, f"trial {trial.number}", resolved, parent.run_id, advice)
        for epoch, value in sorted(trial.intermediate_values.items()):
            child.epoch({"epoch": epoch, experiment.search.metric: value})
        child.end("FAILED" if trial.state.name == "FAIL" else "FINISHED")
        parent.lost = child.lost

    with _marked_as_failed_on_error(parent):
        yield track
    parent.end("FINISHED")
