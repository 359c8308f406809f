"""The MLflow model ``letters``: it maps pixels to a class name and its probability. It does not import this project."""

import json
from pathlib import Path

import keras
import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel  # type: ignore[attr-defined]


class Letters(PythonModel):
    """A network that predicts class names."""

    # without type hints: MLflow would infer a signature from them, but the model is logged with an explicit one
    def load_context(self, context):  # type: ignore[no-untyped-def]
        self.network = keras.models.load_model(context.artifacts["network"], compile=False)
        self.class_names = json.loads(Path(context.artifacts["class_names"]).read_text())

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Return a table with ``letter`` and ``probability`` for ``uint8`` pixels of shape ``(n, pixels)``."""
        probabilities = self.network(np.asarray(model_input, dtype=np.uint8)).numpy()
        class_indices = probabilities.argmax(axis=1)
        letters = [self.class_names[index] for index in class_indices]
        return pd.DataFrame({"letter": letters, "probability": probabilities.max(axis=1)})


mlflow.models.set_model(Letters())
