"""Every experiment in conf/, with small settings: its results can be used. All jobs run in this process, in one Spark
session."""

import ctypes
import functools
import gc
import io
import json
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import requests
import yaml
from PIL import Image

from preprocessing.data_settings import Preprocessing
from preprocessing.errors import InputError
from preprocessing.synthetic import write_sample
from serving.app import Service, create_app
from serving.limits import Limits
from serving.recognizer import Recognizer
from tests.conftest import ROOT, RunJob
from tests.pictures import write_pictures
from tests.servers import running_server

# The maximum side of a picture in pixels; it is sufficient for every network.
MAX_SIZE = 64
SIGN_MNIST, PHOTOGRAPHS = "sign_mnist", "asl_images"
# By a field that only the experiments of one job have: the job, and whether it writes a run that can predict.
JOBS = {
    "forest": ("train_random_forest", True),
    "search": ("tune", True),
    "optimizers": ("compare_optimizers", False),
    "fractions": ("learning_curve", False),
    "by": ("cross_validate", False),
    "models": ("compare_models", False),
}


@dataclass(frozen=True)
class Experiment:
    """A file in conf/."""

    file: Path

    @functools.cached_property
    def fields(self) -> dict[str, Any]:
        return yaml.safe_load(self.file.read_text())

    @property
    def job(self) -> str:
        return self._job[0]

    @property
    def writes_run(self) -> bool:
        return self._job[1]

    @property
    def _job(self) -> tuple[str, bool]:
        return next((job for field, job in JOBS.items() if field in self.fields), ("train_cnn", True))

    @property
    def sources(self) -> list[str]:
        """Folders of the data. By default, pictures of another size than Sign-MNIST's are photographs."""
        paths = [source["path"] for source in self.fields.get("sources", [])]
        if paths == ["."]:
            return [self.file.stem]
        return paths or [SIGN_MNIST if self.size == Preprocessing().size else PHOTOGRAPHS]

    @property
    def size(self) -> int:
        return Preprocessing(**self.fields.get("preprocessing", {})).size

    @property
    def models(self) -> list[dict[str, Any]]:
        """The first and the last model of a comparison; each of the others has an experiment of its own."""
        return [self.fields["models"][0], self.fields["models"][-1]]

    @property
    def small_settings(self) -> list[object]:
        """Options with which the job takes seconds."""
        if self.job == "train_random_forest":
            return ["--forest.trees", 2, "--forest.max-depth", 4]
        if self.job == "compare_models":
            small = {"training": {"epochs": 1}, "forest": {"trees": 2, "max_depth": 4}}
            models = [model | {key: model[key] | small[key] for key in small if key in model} for model in self.models]
            return ["--num-proc", 1, "--models", json.dumps(models), "--seeds", "[1, 2]"]
        options = ["--num-proc", 1, "--training.epochs", 1]
        if "from_run" not in self.fields:  # the size must be that of the run
            options += ["--preprocessing.size", min(self.size, MAX_SIZE)]
        if "augmented_pictures" in self.fields["training"]:
            options += ["--training.augmented-pictures", 120]
        if "fine_tuning" in self.fields["training"]:
            options += ["--training.fine-tuning.epochs", 1]
        if self.job == "tune":
            options += ["--trials", 1, "--retrain"]
        if "trial_processes" in self.fields:
            options += ["--trial-processes", 1]
        return options


EXPERIMENTS = [Experiment(file) for file in sorted((ROOT / "conf").glob("*.yaml"))]


def for_each(condition: Callable[[Experiment], bool]) -> pytest.MarkDecorator:
    selected = [experiment for experiment in EXPERIMENTS if condition(experiment)]
    names = [experiment.file.stem for experiment in selected]
    # with several workers, all tests of an experiment run in one, as they use the same run
    params = [pytest.param(experiment, marks=pytest.mark.xdist_group(experiment.file.stem)) for experiment in selected]
    return pytest.mark.parametrize("experiment", params, ids=names)


def is_network(experiment: Experiment) -> bool:
    return experiment.writes_run and experiment.job != "train_random_forest"


for_each_run = for_each(lambda experiment: experiment.writes_run)
for_each_network = for_each(is_network)
for_each_study = for_each(lambda experiment: not experiment.writes_run and "models" not in experiment.fields)
for_each_comparison = for_each(lambda experiment: "models" in experiment.fields)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with each source in ``data``; the runs are written to ``runs``."""
    folder = tmp_path_factory.mktemp("experiments")
    for name in {source for experiment in EXPERIMENTS for source in experiment.sources}:
        if Path(name).name == SIGN_MNIST:
            write_sample(folder / "data" / name, {"train": 240, "test": 48})
        else:
            for split, count in (("train", 12), ("test", 4)):
                seed = zlib.crc32(f"{name}/{split}".encode())
                write_pictures(folder / "data" / name / split, "BLV", count, seed)
    return folder


@pytest.fixture(autouse=True)
def released_memory() -> Iterator[None]:
    """What a job leaves in its process, which ends with a user's job: an export over a gigabyte."""
    yield
    keras.backend.clear_session()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(scope="module")
def finished(folder: Path, run_job: RunJob) -> Callable[[Experiment], Path]:
    """Run an experiment's job, once per experiment, and return its run directory."""

    @functools.cache
    def finish(experiment: Experiment) -> Path:
        run, data = folder / "runs" / experiment.file.stem, folder / "data"
        arguments = ["--config", experiment.file, *experiment.small_settings, "--run", run, "--store", folder / "store"]
        is_below_data = len(experiment.fields.get("sources", [])) > 1
        arguments += ["--data", data if is_below_data else data / experiment.sources[0]]
        if experiment.job == "tune":
            arguments += ["--study", folder / "studies" / experiment.file.stem]
        run_job(experiment.job, *arguments, cwd=folder)
        return run

    return finish


@pytest.fixture(scope="module")
def predicted(
    folder: Path, finished: Callable[[Experiment], Path], run_job: RunJob
) -> Callable[[Experiment, str], Path]:
    """Run ``jobs/predict.py`` on a source's test pictures, once per experiment, and return its output folder."""

    @functools.cache
    def predict(experiment: Experiment, source: str) -> Path:
        output = folder / "answers" / experiment.file.stem / source
        run_job("predict", finished(experiment), path_of_test_pictures(folder, source), "--output", output, cwd=folder)
        return output

    return predict


def path_of_test_pictures(folder: Path, source: str) -> Path:
    """The file or folder of a source's test pictures."""
    path = folder / "data" / source
    return path / ("sign_mnist_test.csv" if Path(source).name == SIGN_MNIST else "test")


def metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


@for_each_run
def test_prediction_reaches_the_accuracy_of_the_run(
    experiment: Experiment,
    finished: Callable[[Experiment], Path],
    predicted: Callable[[Experiment, str], Path],
) -> None:
    expected = metrics(finished(experiment))["test"]["sources"]
    # sources whose pictures are all trained on have no test pictures
    tested = [source for source in experiment.sources if Path(source).name in expected]
    predictions = {Path(source).name: metrics(predicted(experiment, source)) for source in tested}
    assert {name: (source["labeled"], source["accuracy"]) for name, source in predictions.items()} == {
        name: (source["rows"], source["accuracy"]) for name, source in expected.items()
    }


@for_each_network
def test_an_export_gives_the_same_predictions_as_the_run(
    experiment: Experiment, finished: Callable[[Experiment], Path], run_job: RunJob, folder: Path
) -> None:
    output = folder / "exported" / experiment.file.stem
    # the job itself compares the predictions
    run_job("export", finished(experiment), "--format", "onnx", "--output", output, cwd=folder)
    assert (output / "model.onnx").exists()


@for_each_network
def test_a_server_gives_the_same_predictions_as_the_job(
    experiment: Experiment,
    finished: Callable[[Experiment], Path],
    predicted: Callable[[Experiment, str], Path],
    folder: Path,
) -> None:
    source = experiment.sources[0]
    answers = pd.read_parquet(predicted(experiment, source) / "predictions")
    expected = answers.loc[answers["probability"].idxmax()]
    with running_server(create_app(Service(Recognizer.of_run(finished(experiment)), Limits()))) as address:
        picture = read_picture(path_of_test_pictures(folder, source), expected["id"])
        response = requests.post(f"{address}/v1/predict", picture, headers={"Content-Type": "image/png"}, timeout=60)
    [prediction] = response.json()["predictions"]
    assert prediction["letter"] == expected["letter"]
    assert prediction["probability"] == pytest.approx(expected["probability"], abs=1e-3)


def read_picture(path: Path, name: str) -> bytes:
    """The bytes of a picture file, from a folder by its file name, or made from a CSV file by its line number."""
    if path.is_dir():
        return (path / name).read_bytes()
    line = path.read_text().splitlines()[int(name.rsplit(":", 1)[1]) - 1]
    pixels = np.array(line.split(",")[1:], dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.reshape(28, 28)).save(file, "PNG")
    return file.getvalue()


@for_each_study
def test_a_study_reports_on_each_of_its_trainings(
    experiment: Experiment, finished: Callable[[Experiment], Path]
) -> None:
    run = finished(experiment)
    report = (run / "report.html").read_text()
    assert "data:image/png;base64," in report
    if experiment.job != "compare_optimizers":
        return
    names = [optimizer["name"] for optimizer in experiment.fields["optimizers"]]
    rates = [optimizer["learning_rate"] for optimizer in experiment.fields["optimizers"]]
    rows = metrics(run)["optimizers"]
    assert [(row["optimizer"], row["learning_rate"]) for row in rows] == list(zip(names, rates, strict=True))
    assert all(name in report for name in names)
    assert all(np.isfinite(list(row.values())[2]) for row in rows)
    # before the first step the networks are identical
    losses = [pd.read_csv(run / f"loss_curve_{name}.csv")["loss"].iloc[0] for name in names]
    assert losses == pytest.approx([losses[0]] * len(names), rel=1e-4)
    assert (run / "figures/loss_curves.png").exists()
    assert "smoothest" in report


@for_each_comparison
def test_models_are_trained_with_each_seed_on_one_split_and_compared(
    experiment: Experiment, finished: Callable[[Experiment], Path], run_job: RunJob, folder: Path
) -> None:
    runs = finished(experiment)
    names = [model["name"] for model in experiment.models]
    trained = {f"{name}-seed-{seed}": metrics(runs / f"{name}-seed-{seed}") for name in names for seed in (1, 2)}
    assert len({run["test"]["fingerprint"] for run in trained.values()}) == 1
    comparison = metrics(runs / "comparison")
    assert set(comparison["runs"]) == set(trained)
    for name in names:
        accuracies = [trained[f"{name}-seed-{seed}"]["test"]["accuracy"] for seed in (1, 2)]
        assert comparison["seeds"][name]["mean_accuracy"] == pytest.approx(sum(accuracies) / 2)
    # runs with the same seed are compared, each pair of models
    assert len(comparison["pairs"]) == 2 * len(names) * (len(names) - 1) / 2
    assert "mean test accuracy" in (runs / "comparison/report.html").read_text()

    kept, lost = f"{names[0]}-seed-1", f"{names[-1]}-seed-2"
    created = (runs / kept / "run.json").read_bytes()
    shutil.rmtree(runs / lost)
    command = ["--config", experiment.file, *experiment.small_settings, "--run", runs, "--store", folder / "store"]
    command += ["--data", folder / "data" / experiment.sources[0]]
    with pytest.raises(InputError, match="a run exists already"):
        run_job("compare_models", *command, cwd=folder)
    output = run_job("compare_models", *command, "--resume", cwd=folder)
    assert f"{kept}, which is finished" in output
    assert (runs / kept / "run.json").read_bytes() == created
    assert metrics(runs / lost)["test"]["accuracy"] == trained[lost]["test"]["accuracy"]
    with pytest.raises(InputError, match=r"was trained with max_rejected 0.01"):
        run_job("compare_models", *command, "--resume", "--max-rejected", "0.5", cwd=folder)
