"""The convolutions of MediaPipe's hand-landmark network (Zhang et al., 2020), as a Keras network with their weights.

They were trained on about a hundred thousand varied hands to locate 21 joints per hand. The same features distinguish
the signs. The package ``mediapipe`` (Apache 2.0) provides the weights as a TensorFlow Lite file.
"""

from typing import Any

import numpy as np
from keras import layers
from tensorflow.lite.python import schema_py_generated as schema

from models.errors import TrainingError
from preprocessing.hand_detection import LANDMARK_FILE, mediapipe_file

_OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
_RELU6 = schema.ActivationFunctionType.RELU6
_SAME = schema.Padding.SAME


def hand_features(pixels: Any) -> Any:
    """Build the backbone and return its averaged features.

    Args:
        pixels: a Keras tensor, ``float32`` ``(batch, height, width, 3)``, 0..1; the network was trained on 224x224.

    Returns:
        A Keras tensor, ``float32`` ``(batch, 1152)``.

    Raises:
        TrainingError: the package ``mediapipe`` is not installed.
    """
    try:
        content = mediapipe_file(LANDMARK_FILE).read_bytes()
    except FileNotFoundError as error:
        raise TrainingError(f"network handshape_photo takes its weights from a package: {error}") from error
    graph = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    return _Converter(graph).features(pixels)


class _Converter:
    """Converts the operators of a TensorFlow Lite graph, in their order, to Keras layers."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph.subgraphs[0]
        self.codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in graph.operatorCodes]
        self.buffers = graph.buffers
        self.constants: dict[int, np.ndarray] = {}
        self.tensors: dict[int, Any] = {}

    def features(self, pixels: Any) -> Any:
        self.tensors[self.graph.inputs[0]] = pixels
        for number, operator in enumerate(self.graph.operators):
            name = _OPERATORS[self.codes[operator.opcodeIndex]]
            [output], inputs = operator.outputs, operator.inputs
            if name == "DEQUANTIZE":
                self.constants[output] = self._constant(inputs[0])
            elif name == "ADD":
                self.tensors[output] = layers.Add(name=f"hand_{number}_add")([self.tensors[i] for i in inputs])
            elif name == "MEAN":
                return layers.GlobalAveragePooling2D(name="hand_features")(self.tensors[inputs[0]])
            else:
                self.tensors[output] = self._convolution(name, number, operator)
        raise ValueError("the TensorFlow Lite file has no MEAN operator")

    def _constant(self, index: int) -> np.ndarray:
        tensor = self.graph.tensors[index]
        kind = {schema.TensorType.FLOAT16: np.float16, schema.TensorType.FLOAT32: np.float32}[tensor.type]
        values = np.frombuffer(self.buffers[tensor.buffer].data.tobytes(), dtype=kind)
        return values.reshape(tensor.shape).astype(np.float32)

    def _convolution(self, name: str, number: int, operator: Any) -> Any:
        source, *weights = operator.inputs
        kernel, bias = (self.constants[i] if i in self.constants else self._constant(i) for i in weights)
        options = operator.builtinOptions
        shared = {
            "strides": options.strideH,
            "padding": "same" if options.padding == _SAME else "valid",
            "name": f"hand_{number}_{'depthwise' if name.startswith('DEPTH') else 'conv'}",
        }
        if name == "CONV_2D":
            layer = layers.Conv2D(kernel.shape[0], kernel.shape[1:3], **shared)
            kernel = kernel.transpose(1, 2, 3, 0)
        else:
            layer = layers.DepthwiseConv2D(kernel.shape[1:3], **shared)
            kernel = kernel.transpose(1, 2, 3, 0)
        output = layer(self.tensors[source])
        layer.set_weights([kernel, bias])
        if options.fusedActivationFunction == _RELU6:
            return layers.ReLU(6.0, name=f"hand_{number}_relu")(output)
        return output
