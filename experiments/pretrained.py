"""The network that comes with this project: a small copy of the run of ``conf/hands.yaml``.

``make pretrained DATA=DIR`` trains that run and calls ``python -m experiments.pretrained RUN``, which writes the copy.
``make setup`` calls ``python -m experiments.pretrained``, which writes its network in ONNX format, for the server.
"""

import json
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides hints on unused CPU instructions

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from evaluation.metrics import confused_pairs
from evaluation.report import write_run_report
from evaluation.runs import METRICS_FILE, RUN_FILE, RunError, check_job, read_run
from experiments.packages import PRETRAINED, ROOT
from models.errors import TrainingError
from models.export import metadata_of, to_onnx
from models.saved_network import load_network, save_network
from preprocessing.data_settings import preprocessing_of
from preprocessing.labels import LETTERS, STILL_LETTERS
from preprocessing.synthetic import draw_hands

_FILES = (RUN_FILE, METRICS_FILE, "class_names.json", "history.csv")
# The side in pixels of the drawn samples.
_SAMPLE_SIDE = 128
# The figures that show no picture of a data set: these belong to others.
_FIGURES = ("class_distribution", "confusion_matrix", "training_curves")


def write_copy(source: Path, target: Path) -> None:
    """Copy a run without the pictures of its data sets, and with weights rounded to half precision.

    Args:
        source: the run directory.
        target: a folder. Its other files, such as the model card, are kept.

    Raises:
        RunError: the source is not a run of a network.
        TrainingError: its network cannot be loaded.
    """
    run = read_run(source, str(source))
    check_job(run, "cnn")
    write_compressed(source / "model.keras", target / "model.keras")
    draw_samples(target / "samples")
    for name in _FILES:
        shutil.copy(source / name, target / name)
    # without the paths of the machine that it was trained on
    experiment = yaml.safe_load((source / "experiment.yaml").read_text(encoding="utf-8"))
    experiment |= {"data": None, "run": None, "store": "store"}
    text = yaml.safe_dump(experiment, sort_keys=False, allow_unicode=True)
    (target / "experiment.yaml").write_text(text, encoding="utf-8")
    confusion, class_names = np.array(run.metrics["test"]["confusion"]), _class_names(source)
    with tempfile.TemporaryDirectory() as temporary:
        for name in _FIGURES:
            shutil.copy(source / f"figures/{name}.png", temporary)
        write_run_report(
            target / "report.html",
            run,
            confused_pairs(confusion, class_names),
            pd.read_csv(source / "history.csv"),
            Path(temporary),
            text,
        )


def draw_samples(folder: Path) -> None:
    """Draw the sign of each letter, for the page's mode Practice, instead of the pictures of a data set."""
    folder.mkdir(exist_ok=True)
    for letter in STILL_LETTERS:
        [picture] = draw_hands(np.array([LETTERS.index(letter)]), np.random.default_rng(0), _SAMPLE_SIDE)
        Image.fromarray(picture).save(folder / f"{letter}.png")


def write_compressed(source: Path, target: Path) -> None:
    """Write a network with its weights rounded to half precision, compressed: two bytes per weight."""
    network = load_network(source)
    network.set_weights([weights.astype(np.float16).astype(weights.dtype) for weights in network.get_weights()])
    with tempfile.TemporaryDirectory() as temporary:
        stored = Path(temporary) / "model.keras"
        save_network(network, stored)
        with zipfile.ZipFile(stored) as file, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as compressed:
            for name in file.namelist():
                compressed.writestr(name, file.read(name))


def write_onnx(run: Path) -> None:
    """Write the network of a run in ONNX format, which the server reads in a moment."""
    preprocessing = preprocessing_of((run / "experiment.yaml").read_text(encoding="utf-8"))
    content = to_onnx(load_network(run / "model.keras"), metadata_of(_class_names(run), preprocessing))
    (run / "model.onnx").write_bytes(content)


def _class_names(run: Path) -> list[str]:
    names: list[str] = json.loads((run / "class_names.json").read_text(encoding="utf-8"))
    return names


if __name__ == "__main__":
    folder = ROOT / PRETRAINED
    try:
        if len(sys.argv) > 1:
            write_copy(Path(sys.argv[1]), folder)
        write_onnx(folder)
    except (RunError, TrainingError) as error:
        sys.exit(f"error: {error}")
