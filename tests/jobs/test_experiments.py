"""Every experiment of conf/, made small: what it trains can be used. In one process, whose Spark is warm."""

import functools
import importlib
import io
import json
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
import uvicorn
import yaml
from fastapi import FastAPI
from PIL import Image
from pyspark.sql import SparkSession

from preprocessing.settings import Preprocessing
from preprocessing.synthetic import write_sample
from serving.app import Service, create_app
from serving.recogniser import Recogniser
from serving.settings import Limits
from tests.conftest import ROOT
from tests.pictures import write_pictures
from tests.servers import free_port

# Pixels of a side: every network takes so few.
LARGEST = 64
SIGN_MNIST, PHOTOGRAPHS = "sign_mnist", "asl_images"
# The field that only this job's experiments have, and whether the job makes a run that predicts.
JOBS = {
    "forest": ("train_random_forest", True),
    "search": ("tune", True),
    "optimizers": ("compare_optimizers", False),
    "fractions": ("learning_curve", False),
    "by": ("cross_validate", False),
}


@dataclass(frozen=True)
class Experiment:
    """A file of conf/."""

    file: Path

    @functools.cached_property
    def fields(self) -> dict[str, Any]:
        return yaml.safe_load(self.file.read_text())

    @property
    def job(self) -> str:
        return self._job[0]

    @property
    def makes_a_run(self) -> bool:
        return self._job[1]

    @property
    def _job(self) -> tuple[str, bool]:
        return next((job for field, job in JOBS.items() if field in self.fields), ("train_cnn", True))

    @property
    def sources(self) -> list[str]:
        """Folders of data; pictures of another size than Sign-MNIST's are photographs."""
        named = [source["path"] for source in self.fields.get("sources", [])]
        return named or [SIGN_MNIST if self.size == Preprocessing().size else PHOTOGRAPHS]

    @property
    def size(self) -> int:
        return Preprocessing(**self.fields.get("preprocessing", {})).size

    @property
    def smaller(self) -> list[object]:
        """Options that make it an affair of seconds."""
        if self.job == "train_random_forest":
            return ["--forest.trees", 2]
        options = ["--num-proc", min(2, self.fields.get("num_proc", 2)), "--training.epochs", 1]
        options += ["--preprocessing.size", min(self.size, LARGEST)]
        if "fine_tuning" in self.fields["training"]:
            options += ["--training.fine-tuning.epochs", 1]
        if self.job == "tune":
            options += ["--trials", 1, "--retrain"]
        return options


EXPERIMENTS = [Experiment(file) for file in sorted((ROOT / "conf").glob("*.yaml"))]


def of_each(kind: Callable[[Experiment], bool]) -> pytest.MarkDecorator:
    chosen = [experiment for experiment in EXPERIMENTS if kind(experiment)]
    return pytest.mark.parametrize("experiment", chosen, ids=[experiment.file.stem for experiment in chosen])


def is_network(experiment: Experiment) -> bool:
    return experiment.makes_a_run and experiment.job != "train_random_forest"


each_run = of_each(lambda experiment: experiment.makes_a_run)
each_network = of_each(is_network)
each_study = of_each(lambda experiment: not experiment.makes_a_run)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With data, each source once, in ``data``, and runs in ``runs``."""
    folder = tmp_path_factory.mktemp("experiments")
    for name in {source for experiment in EXPERIMENTS for source in experiment.sources}:
        if Path(name).name == SIGN_MNIST:
            write_sample(folder / "data" / name, {"train": 240, "test": 48})
        else:
            for split, count in (("train", 12), ("test", 4)):
                seed = zlib.crc32(f"{name}/{split}".encode())
                write_pictures(folder / "data" / name / split, "BLV", count, seed)
    return folder


@pytest.fixture(scope="module")
def run_job(spark: SparkSession) -> Callable[..., None]:
    def run(job: str, *arguments: object) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [f"jobs/{job}.py", *map(str, arguments)])
            importlib.import_module(f"jobs.{job}").main()

    return run


@pytest.fixture(scope="module")
def finished(folder: Path, run_job: Callable[..., None]) -> Callable[[Experiment], Path]:
    """What an experiment's job has written; it runs once."""

    @functools.cache
    def finish(experiment: Experiment) -> Path:
        run, data = folder / "runs" / experiment.file.stem, folder / "data"
        arguments = ["--config", experiment.file, *experiment.smaller, "--run", run, "--store", folder / "store"]
        arguments += ["--data", data if "sources" in experiment.fields else data / experiment.sources[0]]
        if experiment.job == "tune":
            arguments += ["--study", folder / "studies" / experiment.file.stem]
        run_job(experiment.job, *arguments)
        return run

    return finish


@pytest.fixture(scope="module")
def predicted(
    folder: Path, finished: Callable[[Experiment], Path], run_job: Callable[..., None]
) -> Callable[[Experiment, str], Path]:
    """What ``jobs/predict.py`` says of a source's test pictures."""

    @functools.cache
    def predict(experiment: Experiment, source: str) -> Path:
        output = folder / "answers" / experiment.file.stem / source
        run_job("predict", finished(experiment), judged_on(folder, source), "--output", output)
        return output

    return predict


def judged_on(folder: Path, source: str) -> Path:
    """A source's test pictures."""
    place = folder / "data" / source
    return place / ("sign_mnist_test.csv" if Path(source).name == SIGN_MNIST else "test")


def metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


@each_run
def test_prediction_reaches_the_accuracy_of_the_run(
    experiment: Experiment,
    finished: Callable[[Experiment], Path],
    predicted: Callable[[Experiment, str], Path],
) -> None:
    expected = metrics(finished(experiment))["test"]["sources"]
    found = {Path(source).name: metrics(predicted(experiment, source)) for source in experiment.sources}
    assert {name: (answers["labelled"], answers["accuracy"]) for name, answers in found.items()} == {
        name: (source["rows"], source["accuracy"]) for name, source in expected.items()
    }


@each_network
def test_an_export_answers_as_the_run(
    experiment: Experiment, finished: Callable[[Experiment], Path], run_job: Callable[..., None], folder: Path
) -> None:
    output = folder / "exported" / experiment.file.stem
    # the job compares the answers
    run_job("export", finished(experiment), "--format", "onnx", "--output", output)
    assert (output / "model.onnx").exists()


@each_network
def test_a_server_answers_as_the_prediction(
    experiment: Experiment,
    finished: Callable[[Experiment], Path],
    predicted: Callable[[Experiment, str], Path],
    folder: Path,
) -> None:
    source = experiment.sources[0]
    answers = pd.read_parquet(predicted(experiment, source) / "predictions")
    surest = answers.loc[answers["probability"].idxmax()]
    with listening(create_app(Service(Recogniser.of_run(finished(experiment)), Limits()))) as address:
        picture = picture_of(judged_on(folder, source), surest["id"])
        answered = requests.post(f"{address}/v1/predict", picture, headers={"Content-Type": "image/png"}, timeout=60)
    [answer] = answered.json()["predictions"]
    assert answer["letter"] == surest["letter"]
    assert answer["probability"] == pytest.approx(surest["probability"], abs=1e-3)


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """The address of a server in this process: another one would take seconds to start."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def picture_of(place: Path, name: str) -> bytes:
    """A picture as a file: a row of a CSV file, by its line, or a file of a folder."""
    if place.is_dir():
        return (place / name).read_bytes()
    line = place.read_text().splitlines()[int(name.rsplit(":", 1)[1]) - 1]
    pixels = np.array(line.split(",")[1:], dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.reshape(28, 28)).save(file, "PNG")
    return file.getvalue()


@each_study
def test_a_study_reports_on_each_of_its_trainings(
    experiment: Experiment, finished: Callable[[Experiment], Path]
) -> None:
    said = (finished(experiment) / "report.html").read_text()
    assert "data:image/png;base64," in said
    for optimizer in experiment.fields.get("optimizers", []):
        assert optimizer["name"] in said
