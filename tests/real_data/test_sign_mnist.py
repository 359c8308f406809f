"""Tests on Sign-MNIST, which are skipped if it has not been downloaded."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.packages import ROOT
from models.export import read_tflite
from models.onnx_network import read_onnx
from tests.conftest import submit
from tests.servers import served

FOLDERS = [ROOT / "data/sign_mnist", ROOT.parent / "shared/data/sign_mnist"]
existing_folders = [folder for folder in FOLDERS if folder.is_dir()]
pytestmark = pytest.mark.skipif(not existing_folders, reason="Sign-MNIST has not been downloaded: make data")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of one epoch."""
    folder = tmp_path_factory.mktemp("sign_mnist")
    config = ROOT / "conf/sign_mnist_baseline.yaml"
    options = ["--config", config, "--training.epochs", "1", "--run", "runs/baseline"]
    job = submit("jobs/train_cnn.py", "--data", existing_folders[0], *options, cwd=folder)
    assert job.returncode == 0, job.stderr
    return folder


def metrics(folder: Path) -> dict:
    return json.loads((folder / "runs/baseline/metrics.json").read_text())


def test_the_baseline_learns_sign_mnist_in_one_epoch(folder: Path) -> None:
    rows, test = metrics(folder)["rows"], metrics(folder)["test"]
    assert sum(rows[split] for split in ("train", "validation")) == 27_455
    assert rows["test"] == 7_172
    assert rows["rejected"] == 0
    assert test["accuracy"] > 0.4  # 24 letters: chance is 0.04


def test_jobs_server_and_exports_give_the_runs_own_predictions_on_all_test_pictures(
    folder: Path, tmp_path: Path
) -> None:
    [file] = existing_folders[0].glob("sign_mnist_test.csv*")
    job = submit("jobs/predict.py", "runs/baseline", file, "--output", "answers", cwd=folder)
    assert job.returncode == 0, job.stdout
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
            response = server.post("/invocations", body.encode(), "text/csv").json()
            served_letters += [prediction["letter"] for prediction in response["predictions"]]
    letters = {"/invocations": np.array(served_letters)}
    for name, read in (("onnx", read_onnx), ("tflite", read_tflite)):
        job = submit("jobs/export.py", "runs/baseline", "--format", name, "--output", name, cwd=folder)
        assert job.returncode == 0, job.stdout
        class_names = np.array(json.loads((folder / name / "class_names.json").read_text()))
        letters[name] = class_names[read((folder / f"{name}/model.{name}").read_bytes())(pixels).argmax(axis=1)]
    mistakes = {name: int((predicted != expected).sum()) for name, predicted in letters.items()}
    assert mistakes == dict.fromkeys(letters, 0)
