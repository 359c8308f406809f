"""The three jobs end to end, as a user runs them: spark-submit, real Spark, two real Horovod processes."""

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

from preprocessing.labels import STILL_LETTERS
from tests.conftest import BRIEF, ROOT, ROWS, submit

Finished = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def data(sample: Path, folder: Path) -> Path:
    """The sample with one row that cannot be used."""
    (folder / "data").mkdir()
    for file in sample.iterdir():
        (folder / "data" / file.name).write_bytes(file.read_bytes())
    with (folder / "data/sign_mnist_train.csv").open("a") as file:
        file.write("1,2,3\n")
    return folder / "data"


@dataclass(frozen=True)
class Jobs:
    """All of them, two at a time: much of a job's time is one core's, at its start."""

    cnn: Future[Finished]
    forest: Future[Finished]
    resumed: Future[str]
    stopped: Future[tuple[int, str]]


@pytest.fixture(scope="module")
def jobs(folder: Path, data: Path) -> Iterator[Jobs]:
    epochs = ["--training.epochs", "9", "--training.batch_size", "30"]
    trees = ["--forest.trees", "10", "--forest.max-depth", "7"]
    common = ["--data", data, "--seed", "1"]
    with ThreadPoolExecutor(2) as pool:
        # the longest one first
        resumed = pool.submit(stop_and_resume, folder / "resumed", data)
        cnn = pool.submit(submit, "jobs/train_cnn.py", *SAMPLE, *epochs, *common, "--run", "runs/cnn", cwd=folder)
        forest = pool.submit(submit, "jobs/train_random_forest.py", *trees, *common, "--run", "runs/forest", cwd=folder)
        yield Jobs(cnn, forest, resumed, stopped=pool.submit(stop, folder / "stopped", data))


@pytest.fixture(scope="module")
def cnn(jobs: Jobs) -> Finished:
    return jobs.cnn.result()


@pytest.fixture(scope="module")
def forest(jobs: Jobs) -> Finished:
    return jobs.forest.result()


SAMPLE = ["--config", ROOT / "conf/sample.yaml"]


def metrics(folder: Path, run: str) -> dict:
    return json.loads((folder / "runs" / run / "metrics.json").read_text())


def test_the_network_is_trained_and_says_so_line_by_line(cnn: Finished) -> None:
    assert cnn.returncode == 0, cnn.stderr
    lines = cnn.stdout.splitlines()
    assert lines[1] == "rows: 2,160 train, 240 validation, 480 test, 1 set aside; 24 classes"
    epochs = [line for line in lines if line.startswith("epoch")]
    assert len(epochs) == 9
    for words in ("loss", "accuracy", "validation", "images/s"):
        assert words in epochs[0]
    assert lines[-1] == "report runs/cnn/report.html"
    assert not [line for line in lines if line.startswith("watch")]  # nothing is wrong with it
    assert cnn.stderr == ""


def test_the_network_learns(cnn: Finished, folder: Path) -> None:
    # 24 letters: chance is 0.04
    assert metrics(folder, "cnn")["test"]["accuracy"] > 0.7


def left_in_store(folder: Path) -> list[str]:
    """What lies there beside the features that other jobs find again."""
    return [path.name for path in (folder / "store").iterdir() if not path.name.startswith("features-")]


def test_the_run_directory_is_whole_and_alone(cnn: Finished, folder: Path) -> None:
    run = folder / "runs/cnn"
    assert {path.name for path in run.iterdir()} == {
        "classes.json", "experiment.yaml", "figures", "history.csv", "loss_curve.csv", "metrics.json", "model.keras",
        "pipeline", "predictions", "rejected", "report.html", "run.json", "samples", "test_pictures",
    }  # fmt: skip
    assert {path.stem for path in (run / "samples").iterdir()} == set(STILL_LETTERS)
    assert {path.stem for path in (run / "figures").iterdir()} == {
        "class_distribution", "confused_pairs", "confusion_matrix", "predictions", "samples", "training_curves",
    }  # fmt: skip
    assert [path.name for path in (folder / "runs").iterdir() if path.name.startswith(".")] == []
    assert left_in_store(folder) == []
    assert json.loads((run / "classes.json").read_text()) == list(STILL_LETTERS)
    assert yaml.safe_load((run / "experiment.yaml").read_text())["seed"] == 1


def test_the_metrics_hold_what_is_promised(cnn: Finished, folder: Path) -> None:
    found = metrics(folder, "cnn")
    assert found["rows"] == {"train": 2160, "validation": 240, "test": ROWS["test"], "rejected": 1}
    assert found["rejected"] == {"too few fields": 1}
    assert found["num_proc"] == 2
    low, high = found["test"]["accuracy_interval"]
    assert low < found["test"]["accuracy"] < high
    assert 0 < found["test"]["macro"]["f1"] <= 1
    assert found["train"]["images_per_second"] > 0
    stages = found["seconds"]
    assert stages["total"] >= stages["preprocessing"] + stages["training"] > 0


def test_the_history_has_every_metric_of_every_epoch_and_the_kept_one_is_the_best_by_validation(
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


def test_the_saved_model_gives_the_predictions_that_were_saved(
    cnn: Finished, folder: Path, data: Path, spark: SparkSession
) -> None:
    model = keras.models.load_model(folder / "runs/cnn/model.keras")
    pixels, labels = read(data / "sign_mnist_test.csv")
    accuracy = (model.predict(pixels, verbose=0).argmax(axis=1) == labels).mean()
    assert accuracy == pytest.approx(metrics(folder, "cnn")["test"]["accuracy"])
    predictions = spark.read.parquet(str(folder / "runs/cnn/predictions")).toPandas()
    assert (predictions["label"] == predictions["prediction"]).mean() == pytest.approx(accuracy)
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
    right = model.predict(pixels, verbose=0).argmax(axis=1) == labels
    kept = model.predict(change(pixels[right]), verbose=0).argmax(axis=1) == labels[right]
    assert kept.mean() > 0.85


def test_the_forest_is_grown_on_the_same_rows(forest: Finished, cnn: Finished, folder: Path) -> None:
    assert forest.returncode == 0, forest.stderr
    assert forest.stderr == ""
    grown, trained = metrics(folder, "forest"), metrics(folder, "cnn")
    assert grown["rows"] == trained["rows"]
    assert grown["test"]["fingerprint"] == trained["test"]["fingerprint"]
    # ten shallow trees on hands that move: little, and far more than the chance of 0.04
    assert grown["test"]["accuracy"] > 0.1
    assert (folder / "runs/forest/figures/pixel_importance.png").exists()
    assert not (folder / "runs/forest/history.csv").exists()


def test_the_saved_forest_and_pipeline_are_spark_mls_own(forest: Finished, folder: Path, spark: SparkSession) -> None:
    model = RandomForestClassificationModel.load(str(folder / "runs/forest/model"))
    assert model.getNumTrees == 10
    assert model.totalNumNodes == metrics(folder, "forest")["weights"]
    PipelineModel.load(str(folder / "runs/forest/pipeline"))


def test_runs_are_compared_in_one_report(cnn: Finished, forest: Finished, folder: Path) -> None:
    done = submit("jobs/compare.py", "runs/cnn", "runs/forest", "--output", "runs/compare", cwd=folder)
    assert done.returncode == 0, done.stderr
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
    assert "cnn is better than forest" in done.stdout


def last_words(said: str) -> list[str]:
    """What a stopped training says beside its epochs."""
    return [line for line in said.splitlines() if not line.startswith("epoch")]


def stop(folder: Path, data: Path) -> tuple[int, str]:
    """Stop a training that was given no name; its exit status, and what it said."""
    with started(folder, "--data", data) as process:
        os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C sends
        said, _ = process.communicate(timeout=120)
    return process.returncode, said


def test_a_stopped_training_without_a_name_leaves_nothing_of_itself(jobs: Jobs, folder: Path) -> None:
    status, said = jobs.stopped.result()
    assert status != 0
    assert last_words(said) == ["error: interrupted, no run was written"]
    assert [path.name for path in (folder / "stopped").iterdir()] == ["store"]
    assert left_in_store(folder / "stopped") == []


def stop_and_resume(folder: Path, data: Path) -> str:
    """Stop a training that was given a name, go on with it, kill one of its processes; what the first one said."""
    options = ["--data", data, "--training.epochs", "20", "--run", "runs/x"]
    with started(folder, *options) as process:
        process.terminate()
        first, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert not (folder / "runs").exists()
    with started(folder, *options, "--resume") as process:
        [rank, *_] = horovod_processes(process.pid)
        rank.kill()  # what the kernel does when memory runs out
        second, _ = process.communicate(timeout=600)
    assert process.returncode == 0, second
    return first


def test_a_named_one_goes_on_through_the_loss_of_a_process_and_of_the_driver(jobs: Jobs, folder: Path) -> None:
    [line] = last_words(jobs.resumed.result())
    assert line.startswith("error: interrupted, no run was written; ")
    folder = folder / "resumed"
    assert pd.read_csv(folder / "runs/x/history.csv")["epoch"].tolist() == list(range(1, 21))
    found = metrics(folder, "x")
    assert found["restarts"] == 2
    driver, process_lost = (loss["what"] for loss in found["losses"])
    assert driver == "the driver"
    assert process_lost.startswith("a process (exit status ")
    assert [loss["num_proc"] for loss in found["losses"]] == [2, 2]
    assert left_in_store(folder) == []


def horovod_processes(driver: int) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # ended since it was listed, or a zombie
            if "horovod.spark.task.gloo_exec_fn" in process.cmdline()[:3]:
                found.append(process)
    return found


@contextmanager
def started(folder: Path, *options: object) -> Iterator[subprocess.Popen[str]]:
    """A training of many epochs, the first of which has just finished."""
    folder.mkdir(exist_ok=True)
    command = [ROOT / ".venv/bin/spark-submit", ROOT / "jobs/train_cnn.py", "--training.epochs", "500", *options]
    process = subprocess.Popen(
        [*map(str, command)],
        cwd=folder, env=os.environ | BRIEF, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("epoch"):
                break
        else:
            raise AssertionError("".join(said))
        assert list((folder / "store").iterdir()) != []
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


class TestBadInput:
    """Status not 0, one message, nothing left behind."""

    def refused(self, done: Finished, *said: str) -> None:
        # spark-submit hands on what a job writes to its stderr as stdout
        assert done.returncode != 0
        assert done.stderr == ""
        [message] = [line for line in done.stdout.splitlines() if not line.startswith(("reading", "rows", "epoch"))]
        assert message.startswith("error: ")
        for words in said:
            assert words in message

    def test_a_run_name_that_exists(self, cnn: Finished, folder: Path) -> None:
        before = (folder / "runs/cnn/metrics.json").read_bytes()
        self.refused(submit("jobs/train_cnn.py", "--run", "runs/cnn", cwd=folder), "runs/cnn", "--overwrite")
        assert (folder / "runs/cnn/metrics.json").read_bytes() == before

    def test_a_run_directory_that_is_none(self, cnn: Finished, folder: Path) -> None:
        (folder / "runs/empty").mkdir(exist_ok=True)
        done = submit("jobs/compare.py", "runs/cnn", "runs/empty", "--output", "runs/refused", cwd=folder)
        self.refused(done, "runs/empty: not a run directory")
        assert not (folder / "runs/refused").exists()

    def test_a_packed_file_that_is_cut_off(self, sample: Path, tmp_path: Path) -> None:
        packed = gzip.compress((sample / "sign_mnist_train.csv").read_bytes(), 1)
        (tmp_path / "data").mkdir()
        (tmp_path / "data/sign_mnist_train.csv.gz").write_bytes(packed[: len(packed) // 2])
        shutil.copy(sample / "sign_mnist_test.csv", tmp_path / "data")
        done = submit("jobs/train_random_forest.py", "--data", "data", "--run", "runs/forest", cwd=tmp_path)
        self.refused(done, "sign_mnist_train.csv.gz: cannot be unpacked", "cut off or corrupt")
        assert [path.name for path in tmp_path.iterdir()] == ["data"]
