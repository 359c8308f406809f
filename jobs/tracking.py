"""A run in MLflow: its parameters, its epochs as they end, and all that its run directory holds.

A server that cannot be reached costs a warning, never a training.
"""

import io
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import yaml
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from evaluation.runs import METRICS_FILE, RUN_FILE, Run, read_run
from models.errors import without_password
from preprocessing.storage import Storage
from serving.mlflow_models import log_forest, log_network

EXPERIMENT = "handshape"
# Where MLflow's own settings are silent: its defaults wait for a lost server for minutes, call by call.
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
# MLflow takes so many parameters at a time.
_PARAMETERS = 100
_ARTIFACTS = ("figures", "report.html", RUN_FILE, METRICS_FILE, "experiment.yaml", "classes.json", "history.csv")
SEND_LATER = "once it does, jobs/track.py sends the run directory"


class Tracker:
    """One run of MLflow's. After a call that has failed there are no others: the run directory can be sent later.

    Args:
        uri: of the server, or whatever MLflow takes.
        name: of the run.
        experiment: all of it, as YAML.
        parent: the run that this one is part of.
        advice: what can be done when the server does not take it.
    """

    def __init__(
        self, uri: str, name: str, experiment: str, parent: str | None = None, advice: str = SEND_LATER
    ) -> None:
        for setting, value in PATIENCE.items():
            os.environ.setdefault(setting, value)
        # it tells where the run can be seen, and that pickles may be unsafe
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        for library in ("mlflow", "tensorflow"):  # the latter of a network that is loaded to predict alone
            logging.getLogger(library).setLevel(logging.ERROR)
        self.uri = uri
        self.run_id: str | None = None
        self.epochs: set[int] = set()
        self.advice = advice
        self.lost = False
        self._try(lambda: self._begin(name, experiment, parent))

    def epoch(self, row: dict[str, Any]) -> None:
        """Hand on the figures of an epoch that has just ended."""
        self.epochs.add(row["epoch"])
        self._try(lambda: self._log(_figures(row, row["epoch"], int(time.time() * 1000))))

    def end(self, status: str) -> None:
        """``FINISHED``, ``FAILED`` or ``KILLED``, as MLflow has it."""
        self._try(lambda: self.client.set_terminated(str(self.run_id), status))

    def finish(self, storage: Storage, path: str, register: str | None) -> None:
        """Hand on a finished run directory, and those of its epochs that have not been handed on.

        Args:
            storage: the session's file systems.
            path: the run directory.
            register: a name under which the model is registered; none: it is not.
        """
        self._try(lambda: self._send(storage, path, register))
        self.end("FINISHED")

    def _try(self, call: Callable[[], None]) -> None:
        if self.lost:
            return
        try:
            call()
        except Exception as error:  # of whatever library stores its artifacts: the training is worth more
            self.lost = True
            first = without_password(next(iter(str(error).splitlines()), type(error).__name__)[:200])
            print(
                f"warning: MLflow at {without_password(self.uri)} does not take this: {first}; {self.advice}",
                flush=True,
            )
            with suppress(Exception):
                self.client.set_terminated(str(self.run_id), "FAILED")

    def _begin(self, name: str, experiment: str, parent: str | None) -> None:
        self.client = MlflowClient(self.uri)
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self.client.get_experiment_by_name(title)
        place = found.experiment_id if found else self.client.create_experiment(title)
        tags = {"mlflow.parentRunId": parent} if parent else {}
        self.run_id = self.client.create_run(place, run_name=name, tags=tags).info.run_id
        parameters = [Param(key, str(value)) for key, value in _flat(yaml.safe_load(experiment)).items()]
        for start in range(0, len(parameters), _PARAMETERS):
            self.client.log_batch(self.run_id, params=parameters[start : start + _PARAMETERS])

    def _log(self, metrics: list[Metric]) -> None:
        self.client.log_batch(str(self.run_id), metrics=metrics)

    def _send(self, storage: Storage, path: str, register: str | None) -> None:
        with tempfile.TemporaryDirectory() as local:
            folder = Path(local)
            for name in (*_ARTIFACTS, "model.keras"):
                if storage.exists(f"{path}/{name}"):
                    storage.download(f"{path}/{name}", folder / name)
            run = read_run(folder, path)
            now = int(time.time() * 1000)
            if (folder / "history.csv").exists():
                rows = pd.read_csv(folder / "history.csv").to_dict("records")
                for row in (row for row in rows if row["epoch"] not in self.epochs):
                    self._log(_figures({str(key): value for key, value in row.items()}, int(row["epoch"]), now))
            self._log([Metric(key, value, now, 0) for key, value in _numbers(run.metrics).items()])
            tags = _flat({"versions": run.about["versions"], "data": run.metrics["test"]["fingerprint"]})
            tags |= {"git_commit": run.about["git_commit"], "created": run.about["created"]}
            self.client.log_batch(str(self.run_id), tags=[RunTag(key, str(value)) for key, value in tags.items()])
            for name in _ARTIFACTS:
                if (folder / name).is_dir():
                    self.client.log_artifacts(str(self.run_id), str(folder / name), name)
                elif (folder / name).exists():
                    self.client.log_artifact(str(self.run_id), str(folder / name))
            self._send_model(storage, folder, run, path, register)

    def _send_model(self, storage: Storage, folder: Path, run: Run, path: str, register: str | None) -> None:
        mlflow.set_tracking_uri(self.uri)
        # it shows bars of single files, tries the example aloud, and hints at other ways to write a model
        aloud = io.StringIO()
        with redirect_stdout(aloud), redirect_stderr(aloud), mlflow.start_run(run_id=self.run_id):
            if run.about["job"] == "cnn":
                log_network(folder / "model.keras", json.loads((folder / "classes.json").read_text()), register)
            else:
                log_forest(storage, path, register)


def _figures(row: dict[str, Any], step: int, when: int) -> list[Metric]:
    return [Metric(key, float(value), when, step) for key, value in row.items() if _is_number(value) and key != "epoch"]


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    """What of ``metrics.json`` is a figure of the run, under dotted names; classes and confusions stay in the file."""
    kept = {name: metrics[name] for name in ("weights", "bytes", "rows", "seconds", "train")}
    test = {name: value for name, value in metrics["test"].items() if name in ("accuracy", "loss", "macro", "weighted")}
    return {name: float(value) for name, value in _flat(kept | {"test": test}).items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    """The fields under dotted names, without those that are none."""
    (flat,) = pd.json_normalize(content).to_dict("records")
    return {str(name): value for name, value in flat.items() if value is not None}
