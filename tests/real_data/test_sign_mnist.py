"""Sign-MNIST itself, where it is."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs.session import ROOT
from models.export import read_onnx, read_tflite
from tests.conftest import submit
from tests.servers import served

FOLDERS = [ROOT / "data/sign_mnist", ROOT.parent / "shared/data/sign_mnist"]
found = [folder for folder in FOLDERS if folder.is_dir()]
pytestmark = pytest.mark.skipif(not found, reason="Sign-MNIST is not here: make data")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run of one epoch lies."""
    folder = tmp_path_factory.mktemp("sign_mnist")
    config = ROOT / "conf/sign_mnist_baseline.yaml"
    options = ["--config", config, "--training.epochs", "1", "--run", "runs/baseline"]
    done = submit("jobs/train_cnn.py", "--data", found[0], *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def metrics(folder: Path) -> dict:
    return json.loads((folder / "runs/baseline/metrics.json").read_text())


def test_the_baseline_learns_sign_mnist_in_an_epoch(folder: Path) -> None:
    rows, test = metrics(folder)["rows"], metrics(folder)["test"]
    assert sum(rows[split] for split in ("train", "validation")) == 27_455
    assert rows["test"] == 7_172
    assert rows["rejected"] == 0
    assert test["accuracy"] > 0.4  # 24 letters: chance is 0.04


def test_all_ways_to_ask_a_run_give_its_own_answers_on_the_whole_test_set(folder: Path, tmp_path: Path) -> None:
    [file] = found[0].glob("sign_mnist_test.csv*")
    done = submit("jobs/predict.py", "runs/baseline", file, "--output", "answers", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert (
        json.loads((folder / "answers/metrics.json").read_text())["confusion"] == metrics(folder)["test"]["confusion"]
    )

    answers = pd.read_parquet(folder / "answers/predictions")
    lines = answers["id"].str.rsplit(":").str[-1].astype(int)
    expected = answers.set_index(lines).sort_index()["letter"].to_numpy()
    pixels = pd.read_csv(file).drop(columns="label").to_numpy(np.uint8)

    served_letters: list[str] = []
    with served(folder / "runs/baseline", tmp_path / "log") as server:
        for start in range(0, len(pixels), 512):
            body = "\n".join(",".join(map(str, row)) for row in pixels[start : start + 512])
            answered = server.post("/invocations", body.encode(), "text/csv").json()
            served_letters += [prediction["letter"] for prediction in answered["predictions"]]
    letters = {"/invocations": np.array(served_letters)}
    for kind, read in (("onnx", read_onnx), ("tflite", read_tflite)):
        done = submit("jobs/export.py", "runs/baseline", "--format", kind, "--output", kind, cwd=folder)
        assert done.returncode == 0, done.stdout
        classes = np.array(json.loads((folder / kind / "classes.json").read_text()))
        letters[kind] = classes[read((folder / f"{kind}/model.{kind}").read_bytes())(pixels).argmax(axis=1)]
    assert {way: int((given != expected).sum()) for way, given in letters.items()} == dict.fromkeys(letters, 0)
