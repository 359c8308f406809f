"""Plain Keras on arrays in memory and all cores, with the same network, validation and checkpoints.

python benchmarks/peers/keras_on_arrays.py --data DIR --network baseline --batch-size 120 --epochs 5
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import keras
import numpy as np

from benchmarks.measuring import read_rows
from models.model_settings import Network
from models.networks import build_network
from preprocessing.normalization import by_range
from preprocessing.sign_mnist import FILES


class EpochEnds(keras.callbacks.Callback):
    """Records the time at which each epoch ends."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.ends.append(time.time())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--network", default="baseline")
    parser.add_argument("--batch-size", type=int, default=120)
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()

    rows = read_rows(arguments.data / FILES["train"]).sample(frac=1, random_state=0)
    pixels = rows.drop(columns="label").to_numpy()
    unique_labels, labels = np.unique(rows["label"], return_inverse=True)
    labels = keras.utils.to_categorical(labels)
    num_validation = len(rows) // 10
    model = build_network(Network(name=arguments.network), (28, 28, 1), len(unique_labels), by_range(1))
    model.compile(
        optimizer=keras.optimizers.Adam(0.001),
        loss="categorical_crossentropy",
        metrics=["accuracy", keras.metrics.Precision(), keras.metrics.Recall()],
    )
    epoch_ends = EpochEnds()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = keras.callbacks.ModelCheckpoint(f"{folder}/{{epoch}}.keras")
        model.fit(
            pixels[num_validation:],
            labels[num_validation:],
            batch_size=arguments.batch_size,
            epochs=arguments.epochs,
            validation_data=(pixels[:num_validation], labels[:num_validation]),
            callbacks=[checkpoint, epoch_ends],
            verbose=0,
        )
    num_images = (len(rows) - num_validation) * (arguments.epochs - 1)
    print(
        json.dumps(
            {
                "images_per_second": num_images / (epoch_ends.ends[-1] - epoch_ends.ends[0]),
                "rows": len(rows) - num_validation,
            }
        )
    )


if __name__ == "__main__":
    main()
