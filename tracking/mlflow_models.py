"""Logging of models to MLflow, which can load and serve them."""

import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlflow
import mlflow.pyfunc
import mlflow.spark
import mlflow.tensorflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from pyspark.ml import PipelineModel

from models.forest import load_forest
from models.saved_network import load_network
from preprocessing.saved_pipeline import load_pipeline
from preprocessing.storage import Storage

_REQUIREMENTS = ("tensorflow-cpu", "keras", "numpy", "pandas")


def log_network(path: Path, class_names: list[str], register: str | None) -> None:
    """Log a network to the active run: as ``model`` in the TensorFlow flavor, which returns probabilities, and as
    ``letters``, which returns class names and is registered as ``register`` unless that is None. Neither model requires
    this project."""
    network = load_network(path)
    example = np.full((1, network.input_shape[1]), 127, dtype=np.uint8)
    requirements = [f"{name}=={version(name)}" for name in _REQUIREMENTS]
    mlflow.tensorflow.log_model(
        network,
        name="model",
        signature=infer_signature(example, network(example).numpy()),
        input_example=example,
        pip_requirements=requirements,
        metadata={"class_names": class_names},
    )
    with tempfile.TemporaryDirectory() as local:
        class_file = Path(local) / "class_names.json"
        class_file.write_text(json.dumps(class_names))
        mlflow.pyfunc.log_model(
            name="letters",
            python_model=str(Path(__file__).parent / "letters_model.py"),
            artifacts={"network": str(path), "class_names": str(class_file)},
            signature=infer_signature(example, pd.DataFrame({"letter": ["A"], "probability": [0.5]})),
            input_example=example,
            pip_requirements=requirements,
            registered_model_name=register,
        )


def log_forest(storage: Storage, run: str, register: str | None) -> None:
    """Log a run's pipeline and forest to the active run as one model in the Spark flavor. Loading it requires this
    project, which defines the first stage of the pipeline."""
    pipeline = load_pipeline(storage, f"{run}/pipeline")
    forest = load_forest(storage, f"{run}/model")
    requirements = [f"pyspark=={version('pyspark')}"]
    model = PipelineModel([*pipeline.stages, forest])
    mlflow.spark.log_model(model, "model", registered_model_name=register, pip_requirements=requirements)
