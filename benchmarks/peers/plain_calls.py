"""Measure how many calls ``model(x)`` of a network one process makes a second, with one picture per call."""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

SECONDS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    network = keras.models.load_model(parser.parse_args().run / "model.keras", compile=False)
    pixels = np.random.default_rng(0).integers(0, 256, (1, network.input_shape[1]), dtype=np.uint8)
    for _ in range(20):
        network(pixels)
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        network(pixels)
        calls += 1
    print(json.dumps({"calls_per_second": calls / (time.perf_counter() - start)}))


if __name__ == "__main__":
    main()
