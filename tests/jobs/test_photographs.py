"""Jobs with folders of photographs, as a user runs them."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pyspark.sql import SparkSession

from tests.conftest import submit
from tests.pictures import write_pictures

Finished = subprocess.CompletedProcess[str]
LETTERS = "BLVY"
SMALL = ["--num-proc", "1", "--preprocessing.size", "32", "--training.batch-size", "16", "--training.epochs"]
SOURCES = "[{path: one, pattern: '(?P<signer>user_[0-9])'}, {path: two, pattern: '(?P<signer>user_[0-9])'}]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources with two signers each, in one folder per class; the first source also has broken files."""
    folder = tmp_path_factory.mktemp("photographs")
    for number, source in enumerate(("one", "two")):
        for split, count in (("train", 20), ("test", 6)):
            for signer in range(2):
                seed = 10 * number + signer + 5 * (split == "test")
                path = folder / f"data/{source}/{split}/user_{2 * number + signer}"
                write_pictures(path, LETTERS, count, seed)
    broken = folder / "data/one/train/user_0/B"
    (broken / "empty.jpg").write_bytes(b"")
    (broken / "text.png").write_text("no picture")
    Image.new("L", (1, 1)).save(broken / "pixel.png")
    return folder


BOTH = ["--sources", SOURCES, "--max-rejected", "0.05"]


@pytest.fixture(scope="module")
def jobs(folder: Path) -> Callable[[str], Finished]:
    """Start the two trainings, one after the other, while the studies run in this process."""
    data = ["--data", folder / "data", *BOTH]
    commands = {
        "photo": ["jobs/train_cnn.py", *data, *SMALL, "6", "--split.by", "group", "--split.validation", "0.3",
                  "--training.balance", "true", "--training.calibration", "true", "--preprocessing.color", "rgb",
                  "--preprocessing.normalization", "channel", "--training.early-stopping", "4",
                  "--network.name", "handshape_photo", "--network.head", "[16]",
                  "--training.fine-tuning.layer", "hand_149_depthwise", "--training.fine-tuning.epochs", "2"],
        "forest": ["jobs/train_random_forest.py", *data, "--forest.trees", "10", "--forest.pca", "20"],
    }  # fmt: skip
    pool = ThreadPoolExecutor(1)
    running = {
        name: pool.submit(submit, *command, "--run", f"runs/{name}", cwd=folder) for name, command in commands.items()
    }

    def finished(name: str) -> Finished:
        done = running[name].result()
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return finished


@pytest.fixture
def study(
    jobs: Callable[[str], Finished],
    folder: Path,
    spark: SparkSession,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """Run a study's job in this process, which has a Spark session already, and return its output."""

    def run(job: str, name: str, *arguments: object) -> str:
        folders = ["--run", folder / "runs" / name, "--store", folder / "store"]
        monkeypatch.setattr(sys, "argv", [f"jobs/{job}.py", *map(str, [*arguments, *SMALL, "1", *folders])])
        importlib.import_module(f"jobs.{job}").main()
        return capsys.readouterr().out

    return run


def metrics(folder: Path, run: str) -> dict:
    return json.loads((folder / "runs" / run / "metrics.json").read_text())


def test_optimizers_are_compared_from_the_same_initial_weights(study: Callable[..., str], folder: Path) -> None:
    optimizers = ["--optimizers", "[{name: sgd, learning_rate: 0.01}, {name: adamw}]"]
    output = study("compare_optimizers", "optimizers", "--data", folder / "data/two", *optimizers)
    assert "training with adamw, learning rate 0.001" in output
    rows = metrics(folder, "optimizers")["optimizers"]
    assert [row["optimizer"] for row in rows] == ["sgd", "adamw"]
    assert all(np.isfinite(list(row.values())[2]) for row in rows)
    first = [pd.read_csv(folder / f"runs/optimizers/loss_curve_{row['optimizer']}.csv")["loss"].iloc[0] for row in rows]
    assert first[0] == pytest.approx(first[1], rel=1e-4)  # before the first step the networks are identical
    assert (folder / "runs/optimizers/figures/loss_curves.png").exists()
    assert "smoothest" in (folder / "runs/optimizers/report.html").read_text()


def test_a_learning_curve_has_one_point_per_size(study: Callable[..., str], folder: Path) -> None:
    study("learning_curve", "curve", "--data", folder / "data/two", "--fractions", "[0.5, 1.0]")
    points = metrics(folder, "curve")["points"]
    assert [point["rows"] for point in points] == [72, 144]
    assert all(point["low"] <= point["test"] <= point["high"] for point in points)
    assert (folder / "runs/curve/figures/learning_curve.png").exists()


def test_each_source_is_left_out_once_and_no_test_picture_is_used(study: Callable[..., str], folder: Path) -> None:
    output = study(
        "cross_validate", "left_out", "--data", folder / "data", *BOTH, "--by", "source", "--training.balance", "true"
    )
    assert "leaving out one: 144 pictures to train on, 160 to evaluate on, 4 classes, 2 epochs" in output
    results = metrics(folder, "left_out")
    folds = results["left_out"]
    assert set(folds) == {"one", "two"}
    assert results["mean_accuracy"] == pytest.approx(np.mean([fold["accuracy"] for fold in folds.values()]))


def test_a_network_is_trained_on_several_sources_with_broken_files_among_them(
    jobs: Callable[[str], Finished], folder: Path
) -> None:
    assert "fine-tuning from hand_149_depthwise on" in jobs("photo").stdout
    results = metrics(folder, "photo")
    assert results["rejected"] == {"empty file": 1, "not a picture": 1, "too small a picture": 1}
    assert {name: rows["test"] for name, rows in results["sources"].items()} == {"one": 48, "two": 48}
    assert set(results["test"]["sources"]) == {"one", "two"}
    assert results["parameters"] == 2_568_096 + (1152 * 16 + 16) + (16 * 4 + 4)
    # the history has the epochs of the head, followed by those of the backbone
    history = pd.read_csv(folder / "runs/photo/history.csv")
    assert history["epoch"].tolist() == list(range(1, len(history) + 1))
    assert history["learning_rate"].iloc[-1] == pytest.approx(1e-5)
    assert len(results["normalization"]["scale"]) == 3
    assert results["calibration"]["loss_after"] <= results["calibration"]["loss_before"]
    assert set(results["near_duplicates"]) == {"split_by_row", "split"}
    rejected = pd.concat(pd.read_csv(file) for file in (folder / "runs/photo/rejected").glob("*.csv"))
    assert sorted(rejected["file"]) == [f"train/user_0/B/{name}" for name in ("empty.jpg", "pixel.png", "text.png")]
    report = (folder / "runs/photo/report.html").read_text()
    assert "Does it overfit?" in report
    model = keras.models.load_model(folder / "runs/photo/model.keras", compile=False)
    assert model.input_shape == (None, 32 * 32 * 3)
    predicted = pd.read_parquet(folder / "runs/photo/predictions")
    assert predicted["source"].value_counts().to_dict() == {"one": 48, "two": 48}


def test_a_forest_is_trained_on_principal_components(jobs: Callable[[str], Finished], folder: Path) -> None:
    jobs("forest")
    assert metrics(folder, "forest")["test"]["accuracy"] > 0.4  # four letters: chance is 0.25
    pca = metrics(folder, "forest")["pca"]
    assert pca["components"] == 20
    assert 0.5 < pca["variance"] < 1
    assert (folder / "runs/forest/figures/pixel_importance.png").exists()


def test_only_features_are_kept_in_the_store(jobs: Callable[[str], Finished], folder: Path) -> None:
    for name in ("photo", "forest"):
        jobs(name)
    assert {path.name.split("-")[0] for path in (folder / "store").iterdir()} == {"features"}
    assert all((path / "prepared.json").exists() for path in (folder / "store").iterdir())
    assert [path.name for path in (folder / "runs").iterdir() if path.name.startswith(".")] == []
