"""Where a run goes to MLflow, if the user has one: MLflow is imported then, and not before."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jobs.experiment import Experiment, SearchExperiment, with_values

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from jobs.tracking import Tracker


def tracking_uri(experiment: Experiment) -> str | None:
    return experiment.tracking or os.environ.get("MLFLOW_TRACKING_URI") or None


@contextmanager
def track_run(experiment: Experiment, run: str, text: str) -> "Iterator[Tracker | None]":
    """A run of MLflow's for the time of a training; it fails with it."""
    uri = tracking_uri(experiment)
    if uri is None:
        yield None
        return
    from jobs.tracking import Tracker

    tracker = Tracker(uri, run.rstrip("/").rsplit("/", 1)[-1], text)
    try:
        yield tracker
    except BaseException as error:
        tracker.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise


@contextmanager
def track_search(experiment: SearchExperiment, text: str) -> "Iterator[Callable[[FrozenTrial], None]]":
    """A run of MLflow's for a search, with one below it for each trial that the block hands on."""
    uri = tracking_uri(experiment)
    if uri is None:
        yield lambda _: None
        return
    from jobs.tracking import Tracker

    parent = Tracker(uri, experiment.study.rstrip("/").rsplit("/", 1)[-1], text)

    def track(trial: "FrozenTrial") -> None:
        if parent.lost:
            return
        child = Tracker(uri, f"trial {trial.number}", with_values(text, trial.params)[1], parent.run_id)
        for epoch, value in sorted(trial.intermediate_values.items()):
            child.epoch({"epoch": epoch, experiment.search.metric: value})
        child.end("FAILED" if trial.state.name == "FAIL" else "FINISHED")

    yield track
    parent.end("FINISHED")
