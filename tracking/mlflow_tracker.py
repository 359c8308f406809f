"""Logging of a run to MLflow: its parameters, the metrics of each epoch, and the contents of its run directory.

If the server cannot be reached, a warning is printed and training continues.
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
from tracking.mlflow_models import log_forest, log_network

LOGGER = logging.getLogger("handshape")

EXPERIMENT = "handshape"
# Used unless the user sets these variables: by default each call waits for an unreachable server for minutes.
HTTP_DEFAULTS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
# The largest number of parameters that MLflow accepts in one batch.
_MAX_BATCH_PARAMS = 100
_ARTIFACTS = ("figures", "report.html", RUN_FILE, METRICS_FILE, "experiment.yaml", "class_names.json", "history.csv")
SEND_LATER = "jobs/track.py can send the run directory later"


class Tracker:
    """One MLflow run. After a failed call no more calls are made; the run directory can be sent later.

    Args:
        uri: the tracking URI, such as that of a server.
        name: the name of the run.
        experiment: the complete configuration as YAML.
        parent: the ID of the parent run; None for a run without a parent.
        advice: the end of the warning that is printed when a call fails.
    """

    def __init__(
        self, uri: str, name: str, experiment: str, parent: str | None = None, advice: str = SEND_LATER
    ) -> None:
        for setting, value in HTTP_DEFAULTS.items():
            os.environ.setdefault(setting, value)
        # MLflow prints the URL of the run and warns that pickles may be unsafe
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        for library in ("mlflow", "tensorflow"):  # TensorFlow warns when an uncompiled network is loaded
            logging.getLogger(library).setLevel(logging.ERROR)
        self.uri = uri
        self.run_id: str | None = None
        self.epochs: set[int] = set()
        self.advice = advice
        self.lost = False
        self._try(lambda: self._begin(name, experiment, parent))

    def epoch(self, row: dict[str, Any]) -> None:
        """Log the metrics of an epoch that has just ended."""
        self.epochs.add(row["epoch"])
        self._try(lambda: self._log(_epoch_metrics(row, row["epoch"], int(time.time() * 1000))))

    def end(self, status: str) -> None:
        """End the run with an MLflow status: ``FINISHED``, ``FAILED`` or ``KILLED``."""
        self._try(lambda: self.client.set_terminated(str(self.run_id), status))

    def finish(self, storage: Storage, path: str, register: str | None) -> None:
        """Send a finished run directory, and those of its epochs that have not been logged yet.

        Args:
            storage: the file systems of the Spark session.
            path: the run directory.
            register: the name under which the model is registered. None: the model is not registered.
        """
        self._try(lambda: self._send(storage, path, register))
        self.end("FINISHED")

    def _try(self, call: Callable[[], None]) -> None:
        if self.lost:
            return
        try:
            call()
        except Exception as error:  # artifact stores raise exceptions of many libraries, and none may stop training
            self.lost = True
            first_line = without_password(next(iter(str(error).splitlines()), type(error).__name__)[:200])
            LOGGER.warning(f"MLflow at {without_password(self.uri)} failed: {first_line}; {self.advice}")
            with suppress(Exception):
                self.client.set_terminated(str(self.run_id), "FAILED")

    def _begin(self, name: str, experiment: str, parent: str | None) -> None:
        self.client = MlflowClient(self.uri)
        experiment_name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        existing = self.client.get_experiment_by_name(experiment_name)
        experiment_id = existing.experiment_id if existing else self.client.create_experiment(experiment_name)
        tags = {"mlflow.parentRunId": parent} if parent else {}
        self.run_id = self.client.create_run(experiment_id, run_name=name, tags=tags).info.run_id
        parameters = [Param(key, str(value)) for key, value in _flatten(yaml.safe_load(experiment)).items()]
        for start in range(0, len(parameters), _MAX_BATCH_PARAMS):
            self.client.log_batch(self.run_id, params=parameters[start : start + _MAX_BATCH_PARAMS])

    def _log(self, metrics: list[Metric]) -> None:
        self.client.log_batch(str(self.run_id), metrics=metrics)

    def _send(self, storage: Storage, path: str, register: str | None) -> None:
        with tempfile.TemporaryDirectory() as local:
            folder = Path(local)
            for name in (*_ARTIFACTS, "model.keras"):
                if storage.exists(f"{path}/{name}"):
                    storage.download(f"{path}/{name}", folder / name)
            run = read_run(folder, path)
            timestamp = int(time.time() * 1000)
            if (folder / "history.csv").exists():
                rows = pd.read_csv(folder / "history.csv").to_dict("records")
                for row in (row for row in rows if row["epoch"] not in self.epochs):
                    self._log(
                        _epoch_metrics({str(key): value for key, value in row.items()}, int(row["epoch"]), timestamp)
                    )
            self._log([Metric(key, value, timestamp, 0) for key, value in _run_metrics(run.metrics).items()])
            tags = _flatten({"versions": run.about["versions"], "data": run.metrics["test"]["fingerprint"]})
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
        # MLflow prints progress bars, the output of the input example, and hints on other model formats
        ignored_output = io.StringIO()
        with redirect_stdout(ignored_output), redirect_stderr(ignored_output), mlflow.start_run(run_id=self.run_id):
            if run.about["job"] == "cnn":
                log_network(folder / "model.keras", json.loads((folder / "class_names.json").read_text()), register)
            else:
                log_forest(storage, path, register)


def _epoch_metrics(row: dict[str, Any], step: int, timestamp: int) -> list[Metric]:
    return [
        Metric(key, float(value), timestamp, step) for key, value in row.items() if _is_number(value) and key != "epoch"
    ]


def _run_metrics(metrics: dict[str, Any]) -> dict[str, float]:
    """The numbers of ``metrics.json`` to log, under dotted names. Those of classes and confusions are not logged."""
    kept = {name: metrics[name] for name in ("parameters", "bytes", "rows", "seconds", "train")}
    test = {name: value for name, value in metrics["test"].items() if name in ("accuracy", "loss", "macro", "weighted")}
    return {name: float(value) for name, value in _flatten(kept | {"test": test}).items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flatten(content: dict[str, Any]) -> dict[str, Any]:
    """Flatten nested fields to dotted names, without those that are None."""
    (flat,) = pd.json_normalize(content).to_dict("records")
    return {str(name): value for name, value in flat.items() if value is not None}
