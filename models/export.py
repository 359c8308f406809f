"""Export of networks to formats for phones, browsers and other servers."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

from models.onnx_network import Predict, read_onnx
from models.saved_network import load_network, save_network
from preprocessing.data_settings import Preprocessing
from preprocessing.native_output import native_stderr_discarded

# The newest ONNX opset that tf2onnx supports well; all runtimes of recent years read it.
_OPSET = 17


def export_network(
    network: keras.Model, class_names: list[str], preprocessing: Preprocessing, kind: str, folder: Path
) -> Predict:
    """Write a network, ``class_names.json`` and ``preprocessing.json`` into a folder.

    Args:
        network: network from ``uint8`` pixels ``(n, pixels)`` to ``float32`` probabilities ``(n, classes)``; the
            exported network has the same input and output.
        class_names: class names in the order of the probabilities.
        preprocessing: how the pictures were preprocessed.
        kind: file format, one of ``FORMATS``.
        folder: an existing empty folder.

    Returns:
        The predict function of the exported network, loaded from its file.
    """
    metadata = metadata_of(class_names, preprocessing)
    for name, content in metadata.items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    return FORMATS[kind](network, folder, metadata)


def metadata_of(class_names: list[str], preprocessing: Preprocessing) -> dict[str, Any]:
    """What is written beside an exported network, and into an ONNX file."""
    return {"class_names": class_names, "preprocessing": asdict(preprocessing)}


def to_onnx(network: keras.Model, metadata: dict[str, Any]) -> bytes:
    """Convert a network to ONNX, with an input ``pixels`` of shape ``(n, pixels)``, and metadata as JSON texts."""
    signature = tf.TensorSpec(network.input_shape, tf.uint8, name="pixels")
    # tf2onnx copies the graph many times, and with large_model the weights are not in it
    model, weights = tf2onnx.convert.from_keras(network, (signature,), opset=_OPSET, large_model=True)
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            [location] = [entry.value for entry in tensor.external_data if entry.key == "location"]
            tensor.raw_data = weights.name_to_tensor_data[location]
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    for name, value in metadata.items():
        model.metadata_props.add(key=name, value=json.dumps(value))
    return model.SerializeToString()


def to_tflite(network: keras.Model) -> bytes:
    """Convert a network to TensorFlow Lite, with an input of one picture, ``uint8`` of shape ``(1, pixels)``.

    The batch size is 1 because TensorFlow Lite has fast kernels only for fixed shapes.
    """
    signature = tf.TensorSpec((1, network.input_shape[1]), tf.uint8, name="pixels")
    function = _inference_function(network).get_concrete_function(signature)
    with native_stderr_discarded():
        return tf.lite.TFLiteConverter.from_concrete_functions([function], _weights(network)).convert()


def read_tflite(content: bytes) -> Predict:
    """Return the predict function of a TensorFlow Lite network. It runs picture by picture and is not thread-safe."""
    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    [input_details], [output_details] = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(pixels: np.ndarray) -> np.ndarray:
        probabilities = np.empty((len(pixels), output_details["shape"][1]), dtype=np.float32)
        for i in range(len(pixels)):
            interpreter.set_tensor(input_details["index"], pixels[i : i + 1])
            interpreter.invoke()
            probabilities[i] = interpreter.get_tensor(output_details["index"])[0]
        return probabilities

    return predict


def _inference_function(network: keras.Model) -> Any:
    return tf.function(lambda pixels: network(pixels, training=False), autograph=False)


def _weights(network: keras.Model) -> tf.Module:
    """The weights without the layers, of which TensorFlow would trace every one again, to save their functions."""
    module = tf.Module()
    module.network_weights = network.weights
    return module


def _onnx(network: keras.Model, folder: Path, metadata: dict[str, Any]) -> Predict:
    path = folder / "model.onnx"
    path.write_bytes(to_onnx(network, metadata))
    return read_onnx(path.read_bytes())


def _tflite(network: keras.Model, folder: Path, _: dict[str, Any]) -> Predict:
    path = folder / "model.tflite"
    path.write_bytes(to_tflite(network))
    return read_tflite(path.read_bytes())


def _saved_model(network: keras.Model, folder: Path, metadata: dict[str, Any]) -> Predict:
    module = _weights(network)
    class_names = tf.constant(metadata["class_names"])

    def serve(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = network(pixels, training=False)
        return {"probabilities": probabilities, "letter": tf.gather(class_names, tf.argmax(probabilities, axis=1))}

    signature = tf.TensorSpec(network.input_shape, tf.uint8, name="pixels")
    module.serve = tf.function(serve, input_signature=[signature], autograph=False)
    tf.saved_model.save(module, str(folder / "model"), signatures={"serving_default": module.serve})
    # TensorFlow treats brackets and asterisks in a path as a glob pattern; the path of a file descriptor has none.
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
