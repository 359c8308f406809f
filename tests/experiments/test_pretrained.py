"""The network that comes with this project."""

import json
import zipfile

import numpy as np

from evaluation.runs import read_run
from experiments.packages import PRETRAINED, ROOT, run_location
from models.saved_network import load_network
from preprocessing.labels import OTHERS, STILL_LETTERS

FOLDER = ROOT / PRETRAINED


def test_the_pretrained_run_is_small_and_knows_the_letters_that_do_not_move() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file() and path.name != "model.onnx"]
    assert sum(path.stat().st_size for path in files) < 8_000_000
    assert sorted(json.loads((FOLDER / "class_names.json").read_text())) == sorted([*STILL_LETTERS, *OTHERS])
    run = read_run(FOLDER, "pretrained")
    assert run.about["job"] == "cnn"
    assert run.metrics["test"]["accuracy"] > 0.9


def test_its_weights_have_half_precision() -> None:
    network = load_network(FOLDER / "model.keras")
    assert all(np.array_equal(weights, weights.astype(np.float16)) for weights in network.get_weights())
    with zipfile.ZipFile(FOLDER / "model.keras") as file:
        assert all(entry.compress_type == zipfile.ZIP_DEFLATED for entry in file.infolist())


def test_its_files_name_no_path_of_the_machine_that_trained_it() -> None:
    for path in (*FOLDER.glob("*.json"), FOLDER / "experiment.yaml", FOLDER / "report.html"):
        text = path.read_text(encoding="utf-8")
        assert not [word for word in ("/home/", "/root/", "/tmp/", str(ROOT)) if word in text], path


def test_its_name_is_a_run_directory_wherever_a_job_starts() -> None:
    assert run_location("pretrained") == f"file://{FOLDER}"
    assert run_location("runs/cnn") == "runs/cnn"
