"""Networks in ONNX format, which run without TensorFlow."""

from collections.abc import Callable

import numpy as np
import onnxruntime

Predict = Callable[[np.ndarray], np.ndarray]

# Larger batches are not faster, and need more memory for activations.
_BATCH_SIZE = 16


def read_onnx(content: bytes) -> Predict:
    """Return the predict function of an ONNX network; it runs on one core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    [pixels_input] = session.get_inputs()

    def predict(pixels: np.ndarray) -> np.ndarray:
        batches = (pixels[start : start + _BATCH_SIZE] for start in range(0, len(pixels), _BATCH_SIZE))
        return np.concatenate([session.run(None, {pixels_input.name: batch})[0] for batch in batches])

    return predict
