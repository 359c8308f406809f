"""Networks in the formats of phones, browsers and other servers."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
import tensorflow as tf
import tf2onnx

from models.saved_network import load_network, save_network
from preprocessing.settings import Preprocessing

Predict = Callable[[np.ndarray], np.ndarray]

# The newest that tf2onnx writes well; every runtime of the last years reads it.
_OPSET = 17
# Pictures at a time: more are not faster, and hold more memory for what lies between the layers.
_SLICE = 16


def export_network(
    network: keras.Model, classes: list[str], preprocessing: Preprocessing, kind: str, folder: Path
) -> Predict:
    """Write a network, ``classes.json`` and ``preprocessing.json`` into a folder.

    Args:
        network: takes ``uint8`` ``(n, pixels)``, gives ``float32`` probabilities ``(n, classes)``; so does what is
            written.
        classes: in the order of the probabilities.
        preprocessing: what was done with the pictures.
        kind: one of ``FORMATS``.
        folder: is there and empty.

    Returns:
        What the written network answers, read from its file.
    """
    about = {"classes": classes, "preprocessing": asdict(preprocessing)}
    for name, content in about.items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    return FORMATS[kind](network, folder, about)


def to_onnx(network: keras.Model, properties: dict[str, str]) -> bytes:
    """The network for any number of pictures, ``pixels`` of shape ``(n, pixels)``, with properties in its metadata."""
    shape = tf.TensorSpec(network.input_shape, tf.uint8, name="pixels")
    model, _ = tf2onnx.convert.from_keras(network, (shape,), opset=_OPSET)
    for name, value in properties.items():
        model.metadata_props.add(key=name, value=value)
    return model.SerializeToString()


def read_onnx(content: bytes) -> Predict:
    """What such a network answers, on one core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    [asked] = session.get_inputs()

    def predict(pixels: np.ndarray) -> np.ndarray:
        slices = (pixels[start : start + _SLICE] for start in range(0, len(pixels), _SLICE))
        return np.concatenate([session.run(None, {asked.name: each})[0] for each in slices])

    return predict


def to_tflite(network: keras.Model) -> bytes:
    """The network for one picture, ``uint8`` of shape ``(1, pixels)``.

    TensorFlow Lite has fast kernels for fixed shapes alone.
    """
    shape = tf.TensorSpec((1, network.input_shape[1]), tf.uint8, name="pixels")
    function = _function(network).get_concrete_function(shape)
    with _silent_cpp():
        return tf.lite.TFLiteConverter.from_concrete_functions([function], network).convert()


def read_tflite(content: bytes) -> Predict:
    """What such a network answers for any number of pictures, one after the other; for one thread at a time."""
    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    [asked], [answered] = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(pixels: np.ndarray) -> np.ndarray:
        found = np.empty((len(pixels), answered["shape"][1]), dtype=np.float32)
        for place in range(len(pixels)):
            interpreter.set_tensor(asked["index"], pixels[place : place + 1])
            interpreter.invoke()
            found[place] = interpreter.get_tensor(answered["index"])[0]
        return found

    return predict


@contextmanager
def _silent_cpp() -> Iterator[None]:
    """The converter's C++ counts its operations on the console, whatever the level of the log is."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _function(network: keras.Model) -> Any:
    return tf.function(lambda pixels: network(pixels, training=False), autograph=False)


def _onnx(network: keras.Model, folder: Path, about: dict[str, Any]) -> Predict:
    path = folder / "model.onnx"
    path.write_bytes(to_onnx(network, {name: json.dumps(content) for name, content in about.items()}))
    return read_onnx(path.read_bytes())


def _tflite(network: keras.Model, folder: Path, _: dict[str, Any]) -> Predict:
    path = folder / "model.tflite"
    path.write_bytes(to_tflite(network))
    return read_tflite(path.read_bytes())


def _saved_model(network: keras.Model, folder: Path, about: dict[str, Any]) -> Predict:
    module = tf.Module()
    module.network = network
    names = tf.constant(about["classes"])

    def serve(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = network(pixels, training=False)
        return {"probabilities": probabilities, "letter": tf.gather(names, tf.argmax(probabilities, axis=1))}

    shape = tf.TensorSpec(network.input_shape, tf.uint8, name="pixels")
    module.serve = tf.function(serve, input_signature=[shape], autograph=False)
    tf.saved_model.save(module, str(folder / "model"), signatures={"serving_default": module.serve})
    # TensorFlow takes brackets and stars in the path for a pattern: by its descriptor the folder has a plain name
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        loaded = tf.saved_model.load(f"/proc/self/fd/{descriptor}/model").signatures["serving_default"]
    finally:
        os.close(descriptor)
    return lambda pixels: loaded(pixels=tf.constant(pixels))["probabilities"].numpy()


def _keras(network: keras.Model, folder: Path, _: dict[str, Any]) -> Predict:
    save_network(network, folder / "model.keras")
    loaded = load_network(folder / "model.keras")
    return lambda pixels: loaded(pixels).numpy()


FORMATS: dict[str, Callable[[keras.Model, Path, dict[str, Any]], Predict]] = {
    "onnx": _onnx,
    "tflite": _tflite,
    "savedmodel": _saved_model,
    "keras": _keras,
}
