"""Networks in ONNX format, which run without TensorFlow."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from models.errors import TrainingError

Predict = Callable[[np.ndarray], np.ndarray]

# Larger batches are not faster, and need more memory for activations.
_BATCH_SIZE = 16
# The operators of this project's networks; among others, a loop could run for ever.
_OPERATORS = {
    "Add", "Cast", "Clip", "Concat", "Conv", "Div", "Gather", "GlobalAveragePool", "MatMul", "MaxPool", "Mul", "Pad",
    "Relu", "Reshape", "Shape", "Softmax", "Squeeze", "Transpose",
}  # fmt: skip


def check_onnx(content: bytes, num_pixels: int, num_classes: int) -> None:
    """Check that a file from a stranger is a network like this project's, without running it.

    Args:
        content: the file.
        num_pixels: the number of pixels of a picture.
        num_classes: the number of probabilities.

    Raises:
        TrainingError: it is not an ONNX file, or has other operators, references to files, or another input or output.
    """
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # of Protobuf
        raise TrainingError("not a network in the ONNX format") from error
    graph = model.graph
    operators = {f"{node.domain}.{node.op_type}".lstrip(".") for node in graph.node}
    if unknown := sorted(operators - _OPERATORS):
        raise TrainingError(f"operator {unknown[0]} is not one of this project's networks")
    if model.functions or any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
        raise TrainingError("it has functions, or weights in other files")
    types = [value.type.tensor_type for value in (*graph.input, *graph.output)]
    shapes = [(value.elem_type, [size.dim_value for size in value.shape.dim][1:]) for value in types]
    if shapes != [(onnx.TensorProto.UINT8, [num_pixels]), (onnx.TensorProto.FLOAT, [num_classes])]:
        raise TrainingError(f"{num_pixels} pixels as uint8 and {num_classes} probabilities as float are expected")


def load_onnx(files: Path, num_pixels: int, num_classes: int) -> bytes:
    """The network of a run in ONNX format; a file is checked, see :func:`check_onnx`.

    Args:
        files: a local folder with ``model.onnx``, or with ``model.keras`` of a run of an earlier version.
        num_pixels: the number of pixels of a picture.
        num_classes: the number of probabilities.

    Raises:
        TrainingError: the network cannot be read, or is not a network of this project.
    """
    path = files / "model.onnx"
    if not path.exists():
        # these modules import TensorFlow, which takes seconds and 400 MB
        from models.export import to_onnx
        from models.saved_network import load_network

        return to_onnx(load_network(files / "model.keras"), {})
    try:
        content = path.read_bytes()
        check_onnx(content, num_pixels, num_classes)
    except (OSError, TrainingError) as error:
        raise TrainingError(f"{path}: {error}") from error
    return content


@dataclass(frozen=True)
class Outputs:
    """The probabilities, ``float32`` ``(n, classes)``, and the features that a network's last layer computes them from,
    ``float32`` ``(n, features)``."""

    probabilities: np.ndarray
    features: np.ndarray


def read_onnx(content: bytes) -> Predict:
    """Return the predict function of an ONNX network; it runs on one core."""
    run = _session(content)
    return lambda pixels: run(pixels)[0]


def read_onnx_with_features(content: bytes) -> Callable[[np.ndarray], Outputs]:
    """The same with the features of the pictures."""
    model = onnx.load_from_string(content)
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    # the last layer has two inputs if the network averages the probabilities of a picture and of its mirror image
    inputs = [node.input[0] for node in products if node.input[1] == products[-1].input[1]]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in inputs)
    run = _session(model.SerializeToString())

    def outputs(pixels: np.ndarray) -> Outputs:
        probabilities, *features = run(pixels)
        return Outputs(probabilities, np.mean(features, axis=0))

    return outputs


def _session(content: bytes) -> Callable[[np.ndarray], list[np.ndarray]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    [pixels_input] = session.get_inputs()

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        batches = (pixels[start : start + _BATCH_SIZE] for start in range(0, len(pixels), _BATCH_SIZE))
        outputs = [session.run(None, {pixels_input.name: batch}) for batch in batches]
        return [np.concatenate(rows) for rows in zip(*outputs, strict=True)]

    return run
