"""A run directory, with the files that a server reads, of a network trained on the synthetic sample."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import yaml
from filelock import FileLock
from PIL import Image

from evaluation.runs import METRICS_FILE, RUN_FILE, VERSION, write_json
from models.export import metadata_of, to_onnx
from models.model_settings import Network
from models.networks import build_network
from models.saved_network import load_network, save_network
from preprocessing.data_settings import Preprocessing
from preprocessing.decoding import decode_array
from preprocessing.labels import STILL_LETTERS
from preprocessing.normalization import by_range
from tests.pictures import photograph

CLASS_NAMES = list(STILL_LETTERS)
# A word whose letters the hand detector finds in drawings.
WORD = "WAVY"


@dataclass(frozen=True)
class Pictures:
    """The sample's rows: ``uint8`` of shape ``(n, 784)``, and their letters."""

    pixels: np.ndarray
    letters: np.ndarray


@pytest.fixture(scope="session")
def pictures(sample: Path) -> Pictures:
    table = pd.read_csv(sample / "sign_mnist_train.csv")
    letters = np.array([chr(ord("A") + label) for label in table["label"]])
    return Pictures(table.drop(columns="label").to_numpy(np.uint8), letters)


def hand_crops() -> Pictures:
    """The hands in photographs of the letters of ``WORD``, cropped as the server crops them."""
    rng, crops, letters = np.random.default_rng(0), [], []
    for letter in WORD:
        for seed in range(30):
            side = int(rng.integers(180, 320))
            position = int(rng.integers(0, 640 - side)), int(rng.integers(0, 480 - side))
            image = photograph((letter, side, position), seed=seed)
            picture = decode_array(image.tobytes(), (480, 640, 3), Preprocessing())
            if picture.hand is not None:
                crops.append(np.frombuffer(picture.pixels or b"", dtype=np.uint8))
                letters.append(letter)
    return Pictures(np.stack(crops), np.array(letters))


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, worker_id: str, pictures: Pictures) -> Path:
    if worker_id == "master":  # the tests run in one process
        folder = tmp_path_factory.mktemp("runs") / "cnn"
        _write_run(folder, pictures)
        return folder
    folder = tmp_path_factory.getbasetemp().parent / "runs/cnn"
    folder.parent.mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):  # the process that comes first trains, for all
        if not folder.exists():
            _write_run(folder, pictures)
    return folder


@pytest.fixture(scope="session")
def network(run: Path) -> keras.Model:
    return load_network(run / "model.keras")


def _write_run(folder: Path, pictures: Pictures) -> None:
    network = _train(pictures)
    (folder / "samples").mkdir(parents=True)
    save_network(network, folder / "model.keras")
    (folder / "model.onnx").write_bytes(to_onnx(network, metadata_of(CLASS_NAMES, Preprocessing())))
    (folder / "class_names.json").write_text(json.dumps(CLASS_NAMES))
    (folder / "experiment.yaml").write_text(yaml.safe_dump({"preprocessing": asdict(Preprocessing())}))
    write_json(folder / RUN_FILE, {"version": VERSION, "job": "cnn"})
    confusion = 100 * np.eye(len(CLASS_NAMES), dtype=int)
    write_json(folder / METRICS_FILE, {"test": {"confusion": confusion.tolist()}})
    for letter in CLASS_NAMES:
        pixels = pictures.pixels[pictures.letters == letter][0]
        Image.fromarray(pixels.reshape(28, 28)).save(folder / f"samples/{letter}.png")


def _train(pictures: Pictures) -> keras.Model:
    keras.utils.set_random_seed(3)
    network = build_network(Network(name="handshape"), (28, 28, 1), len(CLASS_NAMES), by_range(1))
    network.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy", metrics=["accuracy"])
    crops = hand_crops()
    pixels = np.concatenate([pictures.pixels, crops.pixels])
    class_indices = np.array([CLASS_NAMES.index(letter) for letter in (*pictures.letters, *crops.letters)])
    history = network.fit(pixels, class_indices, batch_size=60, epochs=10, verbose=0).history
    assert history["accuracy"][-1] > 0.9
    return network
