"""Jobs with folders of photographs, as a user runs them."""

import functools
import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from models.errors import TrainingError
from tests.conftest import RunJob
from tests.pictures import write_pictures

LETTERS = "BLVY"
SMALL = ["--num-proc", 1, "--preprocessing.size", 32, "--training.batch-size", 16, "--training.epochs"]
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
COLOR = ["--preprocessing.color", "rgb", "--preprocessing.normalization", "channel"]
# The same features are read from the store by several tests.
PHOTO_FEATURES = [*COLOR, "--split.by", "group", "--split.validation", 0.3]
THREE_LETTERS = ["--data", "data/two", *COLOR, "--excluded-classes", "[Y]"]


@pytest.fixture(scope="module")
def train(folder: Path, run_job: RunJob) -> Callable[[str], str]:
    """Train the network ``photo`` or the forest on both sources, once, and return the output."""
    jobs = {
        "photo": ["train_cnn", *SMALL, 6, *PHOTO_FEATURES, "--training.balance", "true",
                  "--training.calibration", "true", "--training.early-stopping", 4,
                  "--network.name", "handshape_photo", "--network.head", "[16]",
                  "--training.fine-tuning.layer", "hand_149_depthwise", "--training.fine-tuning.epochs", 2],
        "forest": ["train_random_forest", "--forest.trees", 10, "--forest.max-depth", 6, "--forest.pca", 20],
    }  # fmt: skip

    @functools.cache
    def train(name: str) -> str:
        return run_job(*jobs[name], "--data", folder / "data", *BOTH, "--run", f"runs/{name}", cwd=folder)

    return train


@pytest.fixture
def study(folder: Path, run_job: RunJob) -> Callable[..., str]:
    """Run a study and return its output."""

    def run(job: str, name: str, *arguments: object) -> str:
        return run_job(job, *arguments, *SMALL, 1, "--run", f"runs/{name}", cwd=folder)

    return run


def metrics(folder: Path, run: str) -> dict:
    return json.loads((folder / "runs" / run / "metrics.json").read_text())


def test_a_learning_curve_has_one_point_per_size(study: Callable[..., str], folder: Path) -> None:
    study("learning_curve", "curve", *THREE_LETTERS, "--fractions", "[0.5, 1.0]")
    points = metrics(folder, "curve")["points"]
    assert [point["rows"] for point in points] == [54, 108]
    assert all(point["low"] <= point["test"] <= point["high"] for point in points)
    assert (folder / "runs/curve/figures/learning_curve.png").exists()


def test_each_source_is_left_out_once_and_no_test_picture_is_used(study: Callable[..., str], folder: Path) -> None:
    options = ["--data", folder / "data", *BOTH, *PHOTO_FEATURES, "--training.balance", "true"]
    output = study("cross_validate", "left_out", *options, "--by", "source")
    assert "leaving out one: 80 pictures to train on, 160 to evaluate on, 4 classes, 2 epochs" in output
    results = metrics(folder, "left_out")
    folds = results["left_out"]
    assert set(folds) == {"one", "two"}
    assert all(fold["hands"]["searched"] == 0 for fold in folds.values())  # pictures of 48 pixels are not searched
    assert results["mean_accuracy"] == pytest.approx(np.mean([fold["accuracy"] for fold in folds.values()]))


def test_a_network_is_trained_on_several_sources_with_broken_files_among_them(
    train: Callable[[str], str], folder: Path
) -> None:
    assert "fine-tuning from hand_149_depthwise on" in train("photo")
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


def test_a_forest_is_trained_on_principal_components(train: Callable[[str], str], folder: Path) -> None:
    train("forest")
    assert metrics(folder, "forest")["test"]["accuracy"] > 0.4  # four letters: chance is 0.25
    pca = metrics(folder, "forest")["pca"]
    assert pca["components"] == 20
    assert 0.5 < pca["variance"] < 1
    assert (folder / "runs/forest/figures/pixel_importance.png").exists()


def test_only_features_are_kept_in_the_store(train: Callable[[str], str], folder: Path) -> None:
    for name in ("photo", "forest"):
        train(name)
    assert {path.name.split("-")[0] for path in (folder / "store").iterdir()} == {"features"}
    assert all((path / "prepared.json").exists() for path in (folder / "store").iterdir())
    assert [path.name for path in (folder / "runs").iterdir() if path.name.startswith(".")] == []


FURTHER = [*THREE_LETTERS, "--network.name", "handshape_photo", "--from", "runs/photo"]


def test_a_training_goes_on_from_the_network_of_another_run_with_fewer_classes(
    train: Callable[[str], str], study: Callable[..., str], folder: Path
) -> None:
    train("photo")
    output = study("train_cnn", "further", *FURTHER, "--network.head", "[16]", "--training.learning-rate", 0.000001)
    assert "two: 208 rows read = 156 used + 52 left out" in output
    assert json.loads((folder / "runs/further/class_names.json").read_text()) == ["B", "L", "V"]
    result = metrics(folder, "further")
    assert result["initial_run"]["accuracy"] == pytest.approx(result["test"]["accuracy"], abs=0.15)
    assert f"{result['test']['accuracy']:.4f}, {result['initial_run']['accuracy']:.4f} before" in output
    assert "started from the network of runs/photo" in (folder / "runs/further/report.html").read_text()
    # with such small steps, the weights are those of the other run
    trained, earlier = (keras.models.load_model(folder / f"runs/{run}/model.keras") for run in ("further", "photo"))
    for weights, earlier_weights in zip(trained.get_weights(), earlier.get_weights(), strict=True):
        np.testing.assert_allclose(weights, earlier_weights[..., : weights.shape[-1]], atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--network.head", "[8]"], r"the run has network.head \[16\], and this experiment \[8\]"),
        (["--preprocessing.crop", "center"], "the run has preprocessing.crop hand, and this experiment center"),
    ],
)
def test_a_training_cannot_go_on_from_another_network(
    options: list[str], message: str, train: Callable[[str], str], study: Callable[..., str]
) -> None:
    train("photo")
    with pytest.raises(TrainingError, match=rf"--from runs/photo: {message}: they must be the same"):
        study("train_cnn", "refused", *FURTHER, *options)
