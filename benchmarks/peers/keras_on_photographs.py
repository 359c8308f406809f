"""Plain Keras predicts a folder of photographs: decoded and resized by tf.data, in batches, with all cores.

python benchmarks/peers/keras_on_photographs.py DIR --network handshape --size 64
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import keras
import tensorflow as tf

from models.model_settings import Network
from models.networks import build_network
from preprocessing.normalization import by_range


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", required=True)
    parser.add_argument("--size", type=int, required=True)
    arguments = parser.parse_args()
    size = arguments.size
    model = build_network(Network(name=arguments.network), (size, size, 3), 24, by_range(3))

    def predict() -> int:
        pictures = keras.utils.image_dataset_from_directory(
            str(arguments.folder), labels=None, image_size=(size, size), batch_size=256, shuffle=False
        )
        flat = pictures.map(lambda batch: tf.cast(tf.reshape(batch, (-1, size * size * 3)), tf.uint8))
        return len(model.predict(flat.prefetch(tf.data.AUTOTUNE), verbose=0))

    predict()
    start = time.perf_counter()
    count = predict()
    print(json.dumps({"images_per_second": count / (time.perf_counter() - start)}))


if __name__ == "__main__":
    main()
