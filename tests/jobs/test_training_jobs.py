"""End-to-end tests of the three jobs as a user runs them: with spark-submit, Spark, and two Horovod processes."""

import gzip
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from pyspark.ml import PipelineModel
from pyspark.ml.classification import RandomForestClassificationModel
from pyspark.sql import SparkSession

from evaluation.runs import RunError
from experiments.pretrained import write_copy
from models.saved_network import load_network
from preprocessing.errors import InputError
from preprocessing.labels import STILL_LETTERS
from tests.conftest import BRIEF, ROOT, ROWS, Finished, RunJob, as_on_terminal, submit
from training.cluster.python_daemon import PROCESS_NAME


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def data(sample: Path, folder: Path) -> Path:
    """The sample with one invalid row."""
    (folder / "data").mkdir()
    for file in sample.iterdir():
        (folder / "data" / file.name).write_bytes(file.read_bytes())
    with (folder / "data/sign_mnist_train.csv").open("a") as file:
        file.write("1,2,3\n")
    return folder / "data"


@dataclass(frozen=True)
class Jobs:
    """The jobs, of which two run at a time, because a starting job uses only one core for much of its time."""

    cnn: Future[Finished]
    resumed: Future[str]
    stopped: Future[tuple[int, str]]


@pytest.fixture(scope="module")
def jobs(folder: Path, data: Path, small_sample: Path) -> Iterator[Jobs]:
    options = ["--training.epochs", "9", "--training.batch_size", "30", "--data", data, "--seed", "1"]
    with ThreadPoolExecutor(2) as pool:
        # the longest job first
        resumed = pool.submit(stop_and_resume, folder / "resumed", small_sample)
        cnn = pool.submit(submit, "jobs/train_cnn.py", *SAMPLE, *options, "--run", "runs/cnn", cwd=folder)
        yield Jobs(cnn, resumed, stopped=pool.submit(stop, folder / "stopped", resumed, small_sample))


@pytest.fixture(scope="module")
def cnn(jobs: Jobs) -> Finished:
    return jobs.cnn.result()


@pytest.fixture(scope="module")
def forest(data: Path, folder: Path, run_job: RunJob) -> str:
    trees = ["--forest.trees", "5", "--forest.max-depth", "6"]
    return run_job("train_random_forest", *trees, "--data", data, "--seed", "1", "--run", "runs/forest", cwd=folder)


SAMPLE = ["--config", ROOT / "conf/sample.yaml"]


def metrics(folder: Path, run: str) -> dict:
    return json.loads((folder / "runs" / run / "metrics.json").read_text())


def test_the_training_prints_one_line_per_epoch(cnn: Finished) -> None:
    assert cnn.returncode == 0, cnn.stderr
    lines = cnn.stdout.splitlines()
    assert lines[1] == "rows: 2,160 train, 240 validation, 480 test, 1 rejected; 24 classes"
    epochs = [line for line in lines if line.startswith("epoch")]
    assert len(epochs) == 9
    for part in ("loss", "accuracy", "validation", "images/s"):
        assert part in epochs[0]
    assert lines[-1] == "report runs/cnn/report.html"
    assert not [line for line in lines if line.startswith("warning")]
    assert cnn.stderr == ""


def test_the_network_learns(cnn: Finished, folder: Path) -> None:
    # 24 letters: chance is 0.04
    assert metrics(folder, "cnn")["test"]["accuracy"] > 0.7


def left_in_store(folder: Path) -> list[str]:
    """The names of the folders in the store, except for the features, which other jobs reuse."""
    return [path.name for path in (folder / "store").iterdir() if not path.name.startswith("features-")]


def test_the_run_directory_is_complete_and_nothing_else_is_left(cnn: Finished, folder: Path) -> None:
    run = folder / "runs/cnn"
    assert {path.name for path in run.iterdir()} == {
        "class_names.json", "experiment.yaml", "figures", "history.csv", "loss_curve.csv", "metrics.json",
        "model.keras", "model.onnx", "pipeline", "predictions", "rejected", "report.html", "run.json", "samples",
        "test_pictures",
    }  # fmt: skip
    assert {path.stem for path in (run / "samples").iterdir()} == set(STILL_LETTERS)
    assert {path.stem for path in (run / "figures").iterdir()} == {
        "class_distribution", "confused_pairs", "confusion_matrix", "predictions", "samples", "training_curves",
    }  # fmt: skip
    assert [path.name for path in (folder / "runs").iterdir() if path.name.startswith(".")] == []
    assert left_in_store(folder) == []
    assert json.loads((run / "class_names.json").read_text()) == list(STILL_LETTERS)
    assert yaml.safe_load((run / "experiment.yaml").read_text())["seed"] == 1


def test_a_copy_without_pictures_predicts_the_same_and_is_half_as_large(cnn: Finished, folder: Path) -> None:
    source, target = folder / "runs/cnn", folder / "copy"
    target.mkdir()
    write_copy(source, target)
    assert (target / "model.keras").stat().st_size < 0.6 * (source / "model.keras").stat().st_size
    rows = pd.read_parquet(source / "predictions").merge(pd.read_parquet(source / "test_pictures"), on="id")
    pixels = np.stack([np.frombuffer(pixels, dtype=np.uint8) for pixels in rows["pixels"]])
    probabilities = load_network(target / "model.keras")(pixels)
    np.testing.assert_allclose(probabilities, np.stack(rows["probabilities"].to_list()), atol=0.01)
    assert yaml.safe_load((target / "experiment.yaml").read_text())["data"] is None
    assert "Confusion matrix" in (target / "report.html").read_text()
    assert {path.stem for path in (target / "samples").iterdir()} == set(STILL_LETTERS)


def test_the_metrics_are_complete_and_plausible(cnn: Finished, folder: Path) -> None:
    results = metrics(folder, "cnn")
    assert results["rows"] == {"train": 2160, "validation": 240, "test": ROWS["test"], "rejected": 1}
    assert results["rejected"] == {"too few fields": 1}
    assert results["num_proc"] == 2
    low, high = results["test"]["accuracy_interval"]
    assert low < results["test"]["accuracy"] < high
    assert 0 < results["test"]["macro"]["f1"] <= 1
    assert results["train"]["images_per_second"] > 0
    stages = results["seconds"]
    assert stages["total"] >= stages["preprocessing"] + stages["training"] > 0


def test_the_history_has_every_metric_of_every_epoch_and_the_best_epoch_has_the_lowest_validation_loss(
    cnn: Finished, folder: Path
) -> None:
    history = pd.read_csv(folder / "runs/cnn/history.csv")
    assert history["epoch"].tolist() == list(range(1, 10))
    for name in ("loss", "accuracy", "precision", "recall"):
        assert history[[name, f"val_{name}"]].notna().all(axis=None)
    best = history["epoch"][history["val_loss"].idxmin()]
    assert metrics(folder, "cnn")["train"]["best_epoch"] == best


def test_rejected_rows_are_written_with_file_line_and_reason(cnn: Finished, folder: Path) -> None:
    [file] = (folder / "runs/cnn/rejected").glob("*.csv")
    row = pd.read_csv(file).to_dict("records")
    assert row == [
        {"source": "data", "file": "sign_mnist_train.csv", "line": 2402}
        | {"reason": "too few fields", "detail": "3, 785 expected"}
    ]


def test_the_saved_model_reproduces_the_saved_predictions(
    cnn: Finished, folder: Path, data: Path, spark: SparkSession
) -> None:
    model = keras.models.load_model(folder / "runs/cnn/model.keras")
    pixels, labels = read(data / "sign_mnist_test.csv")
    accuracy = (model.predict(pixels, verbose=0).argmax(axis=1) == labels).mean()
    assert accuracy == pytest.approx(metrics(folder, "cnn")["test"]["accuracy"])
    predictions = spark.read.parquet(str(folder / "runs/cnn/predictions")).toPandas()
    assert (predictions["label"] == predictions["letter"]).mean() == pytest.approx(accuracy)
    assert predictions["probabilities"].map(len).eq(24).all()


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    table = pd.read_csv(path, dtype=np.uint8)
    letters = table.pop("label").map(lambda label: STILL_LETTERS.index("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[label]))
    return table.to_numpy(), letters.to_numpy()


def shifted(pixels: np.ndarray) -> np.ndarray:
    images = pixels.reshape(-1, 28, 28)
    return np.pad(images, ((0, 0), (0, 1), (1, 0)), mode="edge")[:, 1:, :-1].reshape(-1, 784)


def darkened(pixels: np.ndarray) -> np.ndarray:
    return (pixels * 0.8).astype(np.uint8)


def noisy(pixels: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 4, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("change", [shifted, darkened, noisy], ids=lambda change: change.__name__)
def test_a_changed_picture_keeps_its_letter(cnn: Finished, folder: Path, data: Path, change: object) -> None:
    model = keras.models.load_model(folder / "runs/cnn/model.keras")
    pixels, labels = read(data / "sign_mnist_test.csv")
    is_correct = model.predict(pixels, verbose=0).argmax(axis=1) == labels
    is_unchanged = model.predict(change(pixels[is_correct]), verbose=0).argmax(axis=1) == labels[is_correct]
    assert is_unchanged.mean() > 0.85


def test_the_forest_is_trained_on_the_same_rows(forest: str, cnn: Finished, folder: Path) -> None:
    assert forest.endswith("report runs/forest/report.html\n")
    forest_metrics, cnn_metrics = metrics(folder, "forest"), metrics(folder, "cnn")
    assert forest_metrics["rows"] == cnn_metrics["rows"]
    assert forest_metrics["test"]["fingerprint"] == cnn_metrics["test"]["fingerprint"]
    # five shallow trees learn little from hands at varying positions, but far more than the chance level of 0.04
    assert forest_metrics["test"]["accuracy"] > 0.1
    assert (folder / "runs/forest/figures/pixel_importance.png").exists()
    assert not (folder / "runs/forest/history.csv").exists()


def test_the_saved_forest_and_pipeline_can_be_loaded_by_spark_ml(
    forest: str, folder: Path, spark: SparkSession
) -> None:
    model = RandomForestClassificationModel.load(str(folder / "runs/forest/model"))
    assert model.getNumTrees == 5
    assert model.totalNumNodes == metrics(folder, "forest")["parameters"]
    PipelineModel.load(str(folder / "runs/forest/pipeline"))


def test_runs_are_compared_in_one_report(cnn: Finished, forest: str, folder: Path, run_job: RunJob) -> None:
    output = run_job("compare", "runs/cnn", "runs/forest", "--output", "runs/compare", cwd=folder)
    assert {path.name for path in (folder / "runs/compare").iterdir()} == {
        "figures", "metrics.json", "report.html", "run.json",
    }  # fmt: skip
    comparison = metrics(folder, "compare")
    assert set(comparison["runs"]) == {"cnn", "forest"}
    [pair] = comparison["pairs"]
    rows = ROWS["test"]
    difference = metrics(folder, "cnn")["test"]["correct"] - metrics(folder, "forest")["test"]["correct"]
    assert pair["only_first"] - pair["only_second"] == difference
    assert 0 <= pair["only_first"] + pair["only_second"] <= rows
    assert "exact McNemar" in (folder / "runs/compare/report.html").read_text()
    assert "cnn is better than forest" in output


def without_epochs(output: str) -> list[str]:
    """The lines of a training's output, except for those of its epochs."""
    return [line for line in as_on_terminal(output).splitlines() if not line.startswith("epoch")]


def stop(folder: Path, resumed: Future[str], data: Path) -> tuple[int, str]:
    """Stop a training without a name before its first epoch; return its exit status and its output.

    It reads the features that the ``resumed`` training has left in its store.
    """
    resumed.result()
    shutil.copytree(folder.parent / "resumed/store", folder / "store")
    with started(folder, "--data", data, until="training") as process:
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
        output, _ = process.communicate(timeout=120)
    return process.returncode, output


def test_a_stopped_training_without_a_name_leaves_nothing(jobs: Jobs, folder: Path) -> None:
    status, output = jobs.stopped.result()
    assert status != 0
    assert without_epochs(output) == ["error: interrupted, no run was written"]
    assert [path.name for path in (folder / "stopped").iterdir()] == ["store"]
    assert left_in_store(folder / "stopped") == []


def stop_and_resume(folder: Path, data: Path) -> str:
    """Stop a training with a name, resume it, and kill one of its processes; return the output of the first job."""
    options = ["--data", data, "--training.epochs", "12", "--run", "runs/x"]
    with started(folder, *options) as process:
        process.terminate()
        first_output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert not (folder / "runs").exists()
    with started(folder, *options, "--resume") as process:
        [rank, *_] = horovod_processes(process.pid)
        rank.kill()  # as the kernel does when memory runs out
        second_output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, second_output
    return first_output


def test_a_training_with_a_name_survives_the_loss_of_a_process_and_of_the_driver(jobs: Jobs, folder: Path) -> None:
    [line] = without_epochs(jobs.resumed.result())
    assert line.startswith("error: interrupted, no run was written; ")
    folder = folder / "resumed"
    assert pd.read_csv(folder / "runs/x/history.csv")["epoch"].tolist() == list(range(1, 13))
    results = metrics(folder, "x")
    assert results["restarts"] == 2
    first_failure, second_failure = (failure["lost"] for failure in results["failures"])
    assert first_failure == "the driver"
    assert second_failure.startswith("a process (exit status ")
    assert [failure["num_proc"] for failure in results["failures"]] == [2, 2]
    assert left_in_store(folder) == []


def horovod_processes(driver: int) -> list[psutil.Process]:
    processes = []
    for process in psutil.Process(driver).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # the process has ended since it was listed, or is a zombie
            if process.name() == PROCESS_NAME:
                processes.append(process)
    return processes


@contextmanager
def started(folder: Path, *options: object, until: str = "epoch") -> Iterator[subprocess.Popen[str]]:
    """Start a training of many epochs, and yield its process when it has printed a line that begins with ``until``."""
    folder.mkdir(exist_ok=True)
    command = [ROOT / ".venv/bin/spark-submit", ROOT / "jobs/train_cnn.py", "--training.epochs", "500", *options]
    process = subprocess.Popen(
        [*map(str, command)],
        cwd=folder, env=os.environ | BRIEF, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        output = []
        for line in process.stdout:
            output.append(as_on_terminal(line))
            if output[-1].startswith(until):
                break
        else:
            raise AssertionError("".join(output))
        assert list((folder / "store").iterdir()) != []
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


class TestInvalidInput:
    """The exit status is not 0, one message is printed, and no files are left."""

    def assert_rejected(self, job: Finished, *expected: str) -> None:
        # spark-submit writes the stderr of a job to stdout
        assert job.returncode != 0
        assert job.stderr == ""
        [message] = [line for line in job.stdout.splitlines() if not line.startswith(("reading", "rows", "epoch"))]
        assert message.startswith("error: ")
        for part in expected:
            assert part in message

    def test_the_name_of_an_existing_run(self, cnn: Finished, folder: Path, run_job: RunJob) -> None:
        original = (folder / "runs/cnn/metrics.json").read_bytes()
        with pytest.raises(InputError, match="runs/cnn: a run exists already; give another --run, or --overwrite"):
            run_job("train_cnn", "--run", "runs/cnn", cwd=folder)
        assert (folder / "runs/cnn/metrics.json").read_bytes() == original

    def test_a_folder_that_is_not_a_run_directory(self, cnn: Finished, folder: Path, run_job: RunJob) -> None:
        (folder / "runs/empty").mkdir(exist_ok=True)
        with pytest.raises(RunError, match="runs/empty: not a run directory"):
            run_job("compare", "runs/cnn", "runs/empty", "--output", "runs/rejected", cwd=folder)
        assert not (folder / "runs/rejected").exists()

    @pytest.mark.parametrize(
        "arguments", [["predict", "x", "data"], ["export", "x"], ["track", "x"], ["stream", "x", ".", "out"]]
    )
    def test_no_job_uses_a_run_that_does_not_exist(self, arguments: list[str], tmp_path: Path, run_job: RunJob) -> None:
        with pytest.raises(RunError, match="x: no such run directory"):
            run_job(*arguments, cwd=tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_truncated_compressed_file(self, sample: Path, tmp_path: Path) -> None:
        compressed = gzip.compress((sample / "sign_mnist_train.csv").read_bytes(), 1)
        (tmp_path / "data").mkdir()
        (tmp_path / "data/sign_mnist_train.csv.gz").write_bytes(compressed[: len(compressed) // 2])
        shutil.copy(sample / "sign_mnist_test.csv", tmp_path / "data")
        job = submit("jobs/train_random_forest.py", "--data", "data", "--run", "runs/forest", cwd=tmp_path)
        self.assert_rejected(job, "sign_mnist_train.csv.gz: cannot be unpacked", "cut off or corrupt")
        assert [path.name for path in tmp_path.iterdir()] == ["data"]
