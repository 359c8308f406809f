"""Tracking of runs with a real MLflow server, on a free port."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import tensorflow as tf
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from evaluation.runs import RunError
from tests.conftest import ROOT, RunJob, as_on_terminal
from tests.servers import free_port
from tracking.mlflow_tracker import Tracker


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tracking")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    port = free_port()
    database = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command = [ROOT / ".venv/bin/mlflow", "server", "--port", str(port), "--workers", "1", *database]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--artifacts-destination", folder / "artifacts"], cwd=folder, stdout=log, stderr=log
        )
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(240):
                try:
                    urllib.request.urlopen(f"{url}/health", timeout=2)
                    break
                except OSError:
                    assert process.poll() is None, (folder / "server.log").read_text()
                    time.sleep(0.5)
            yield url
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def cnn(server: str, small_sample: Path, folder: Path, run_job: RunJob) -> str:
    """Train, and return the output."""
    settings = ["--network.name", "baseline", "--training.epochs", 2, "--data", small_sample, "--run", "runs/cnn"]
    tracking = ["--tracking", server, "--register", "letters", "--tensorboard", "logs", "--profile"]
    return run_job("train_cnn", *settings, *tracking, cwd=folder)


def runs(server: str) -> list[Run]:
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("handshape")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"]))


def test_a_run_in_mlflow_has_its_parameters_epochs_figures_and_report(cnn: str, server: str, folder: Path) -> None:
    assert "warning" not in cnn
    run = runs(server)[0]
    assert (run.info.run_name, run.info.status) == ("cnn", "FINISHED")
    assert run.data.params["training.epochs"] == "2"
    metrics = json.loads((folder / "runs/cnn/metrics.json").read_text())
    assert run.data.metrics["test.accuracy"] == pytest.approx(metrics["test"]["accuracy"])
    assert run.data.tags["data"] == metrics["test"]["fingerprint"]
    assert run.data.tags["versions.horovod"] == "0.28.1"
    client = MlflowClient(server)
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "val_loss")] == [1, 2]
    artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert {"figures", "report.html", "metrics.json", "experiment.yaml", "history.csv"} <= artifacts
    assert client.get_latest_versions("letters")[0].run_id == run.info.run_id


def test_tensorboard_has_every_epoch_for_training_and_validation(cnn: str, folder: Path) -> None:
    history = pd.read_csv(folder / "runs/cnn/history.csv")
    for split, prefix in (("train", ""), ("validation", "val_")):
        events = EventAccumulator(str(folder / f"logs/cnn/{split}")).Reload()
        losses = [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors("loss")]
        assert losses == pytest.approx(list(history[f"{prefix}loss"]))


def test_a_profile_shows_how_the_time_of_some_steps_was_spent(cnn: str, folder: Path) -> None:
    profile = json.loads((folder / "runs/cnn/metrics.json").read_text())["profile"]
    assert sum(profile["fractions"].values()) == pytest.approx(1, abs=0.01)
    assert 0 < profile["fractions"]["computing"] < 1
    assert 0 < profile["fractions"]["allreduce"] < 1
    assert profile["epoch"] == 2
    assert profile["epoch_seconds"]["training"] > 0
    names = {file.name.split(".", 1)[-1] for file in (folder / "runs/cnn/profile").iterdir()}
    assert names == {"xplane.pb", "json"}
    assert "Where the time goes" in (folder / "runs/cnn/report.html").read_text()


PREDICT = """
import sys, mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
pixels = np.zeros((2, 784), dtype=np.uint8)
experiment = mlflow.get_experiment_by_name("handshape").experiment_id
for model in mlflow.search_logged_models([experiment], output_format="list"):
    print(model.name, mlflow.pyfunc.load_model(model.model_uri).predict(pixels))
print([name for name in sys.modules if name.split(".")[0] in ("jobs", "models", "preprocessing")])
"""


def test_the_model_predicts_without_this_project(cnn: str, server: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.run(
        [sys.executable, "-I", "-c", PREDICT, server], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert "letter  probability" in process.stdout
    assert "model [[" in process.stdout
    assert process.stdout.endswith("[]\n")


def test_a_server_that_cannot_be_reached_causes_a_warning_and_does_not_stop_the_training(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = time.monotonic()
    tracker = Tracker(f"http://127.0.0.1:{free_port()}", "away", "seed: 1")
    tracker.epoch({"epoch": 1, "loss": 1.0})
    tracker.end("FINISHED")
    output = as_on_terminal(capsys.readouterr().err)
    assert tracker.lost
    assert output.count("warning: MLflow at http://127.0.0.1:") == 1
    assert "jobs/track.py" in output
    assert time.monotonic() - start < 60


def test_a_run_directory_can_be_sent_later(cnn: str, server: str, folder: Path, run_job: RunJob) -> None:
    output = run_job("track", "runs/cnn", "--tracking", server, cwd=folder)
    first, second = runs(server)[0], runs(server)[-1]
    assert f"runs/cnn is run {second.info.run_id} of {server}" in output
    assert second.info.run_id != first.info.run_id
    for name in ("val_loss", "test.accuracy"):
        assert second.data.metrics[name] == pytest.approx(first.data.metrics[name])
    assert second.data.params == first.data.params
    with pytest.raises(RunError, match="runs/none: no such run directory"):
        run_job("track", "runs/none", "--tracking", server, cwd=folder)
