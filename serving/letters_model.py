"""What MLflow serves as ``letters``: pixels in, the name of the class and its probability out. It stands alone."""

import json
from pathlib import Path

import keras
import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel  # type: ignore[attr-defined]


class Letters(PythonModel):
    """A network with the names of its classes."""

    # without hints: MLflow would make a signature of them, and the model is logged with one
    def load_context(self, context):  # type: ignore[no-untyped-def]
        self.network = keras.models.load_model(context.artifacts["network"], compile=False)
        self.classes = json.loads(Path(context.artifacts["classes"]).read_text())

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Answer for ``uint8`` pixels ``(n, pixels)``."""
        probabilities = self.network(np.asarray(model_input, dtype=np.uint8)).numpy()
        places = probabilities.argmax(axis=1)
        letters = [self.classes[place] for place in places]
        return pd.DataFrame({"letter": letters, "probability": probabilities.max(axis=1)})


mlflow.models.set_model(Letters())
