"""A run directory with a network that knows the synthetic sample's letters, and servers of it."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import requests
import yaml
from PIL import Image

from evaluation.runs import METRICS_FILE, RUN_FILE, VERSION, write_json
from models.networks import build_network
from models.settings import Network
from preprocessing.labels import STILL_LETTERS
from preprocessing.normalisation import by_range
from preprocessing.settings import Preprocessing
from tests.conftest import ROOT

CLASSES = list(STILL_LETTERS)
KEY = "a-key-of-this-test"
AUTHORISED = {"Authorization": f"Bearer {KEY}"}


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


@pytest.fixture(scope="session")
def network(pictures: Pictures) -> keras.Model:
    keras.utils.set_random_seed(3)
    network = build_network(Network(name="handshape"), (28, 28, 1), len(CLASSES), by_range(1))
    network.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy", metrics=["accuracy"])
    places = np.array([CLASSES.index(letter) for letter in pictures.letters])
    history = network.fit(pictures.pixels, places, batch_size=60, epochs=10, verbose=0).history
    assert history["accuracy"][-1] > 0.9
    return network


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, network: keras.Model, pictures: Pictures) -> Path:
    """A run directory, as far as a server reads it."""
    folder = tmp_path_factory.mktemp("runs") / "cnn"
    (folder / "samples").mkdir(parents=True)
    network.save(folder / "model.keras")
    (folder / "classes.json").write_text(json.dumps(CLASSES))
    (folder / "experiment.yaml").write_text(yaml.safe_dump({"preprocessing": asdict(Preprocessing())}))
    write_json(folder / RUN_FILE, {"version": VERSION, "job": "cnn"})
    write_json(folder / METRICS_FILE, {"test": {"confusion": (100 * np.eye(len(CLASSES), dtype=int)).tolist()}})
    for letter in CLASSES:
        pixels = pictures.pixels[pictures.letters == letter][0]
        Image.fromarray(pixels.reshape(28, 28)).save(folder / f"samples/{letter}.png")
    return folder


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def post(self, path: str, data: bytes, kind: str, **headers: str) -> requests.Response:
        return requests.post(
            self.url + path,
            data,
            headers={"Content-Type": kind, "Authorization": f"Bearer {KEY}"} | headers,
            timeout=60,
        )


@pytest.fixture(scope="session")
def serve(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str | None], Server]]:
    """Starts servers of the run, with an API key or without."""
    started = []

    def start(key: str | None) -> Server:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = tmp_path_factory.mktemp("server") / "log"  # a pipe that nobody reads would be full one day
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "serving", str(run), "--port", str(port)],
                cwd=ROOT, env=os.environ | {"HANDSHAPE_API_KEY": key or ""}, stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        started.append(process)
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while True:
            try:
                requests.get(f"{url}/ping", timeout=1).raise_for_status()
                return Server(process, url, log)
            except requests.ConnectionError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.2)

    yield start
    for process in started:
        process.kill()
        process.wait()
