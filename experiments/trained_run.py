"""Loading of finished runs for prediction, from any file system."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pyspark.sql import DataFrame

from evaluation.runs import Run, check_job
from experiments.run_directory import open_runs
from models.errors import TrainingError
from models.forest import load_forest
from models.onnx_network import load_onnx, read_onnx
from models.prediction import predict_with_forest, predict_with_network
from preprocessing.data_settings import Preprocessing, preprocessing_of
from preprocessing.saved_pipeline import load_pipeline
from preprocessing.storage import Storage

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class TrainedRun:
    """A run with its model.

    Args:
        run: the run.
        class_names: names of the classes in the order of the probabilities.
        preprocessing: preprocessing of the training pictures.
        predict: function that computes the columns of ``PREDICTIONS`` from the columns id, source, label and pixels.
    """

    run: Run
    class_names: list[str]
    preprocessing: Preprocessing
    predict: Callable[[DataFrame], DataFrame]


def open_trained_run(storage: Storage, path: str) -> TrainedRun:
    """Open a run of ``jobs/train_cnn.py`` or ``jobs/train_random_forest.py``.

    Raises:
        RunError: the path is not a run of one of these jobs.
        TrainingError: the network cannot be loaded.
        InputError: the pipeline or the forest cannot be loaded.
    """
    (run,) = open_runs(storage, [path])
    check_job(run, "cnn", "forest")
    folder = storage.absolute(run.files)
    class_names, preprocessing = _read_settings(storage, folder)
    if run.about["job"] == "cnn":
        name = "model.onnx" if storage.exists(f"{folder}/model.onnx") else "model.keras"
        with _downloaded(storage, folder, name) as files:
            network = load_onnx(files, int(np.prod(preprocessing.shape)), len(class_names))
        try:
            read_onnx(network)
        except Exception as error:  # ONNX Runtime has no common class of its errors
            raise TrainingError(f"{folder}/{name}: {error}") from error
        return TrainedRun(
            run, class_names, preprocessing, lambda rows: predict_with_network(rows, network, class_names)
        )
    pipeline = load_pipeline(storage, f"{folder}/pipeline")
    forest = load_forest(storage, f"{folder}/model")
    return TrainedRun(
        run, class_names, preprocessing, lambda rows: predict_with_forest(rows, pipeline, forest, class_names)
    )


def open_network(storage: Storage, run: Run) -> tuple["keras.Model", list[str], Preprocessing]:
    """Load the network of a run of ``jobs/train_cnn.py``, its class names, and its preprocessing.

    Raises:
        RunError: another job wrote the run.
        TrainingError: the network cannot be loaded.
    """
    from models.saved_network import load_network  # imports TensorFlow, which a prediction does without

    check_job(run, "cnn")
    folder = storage.absolute(run.files)
    with _downloaded(storage, folder, "model.keras") as files:
        return load_network(files / "model.keras"), *_read_settings(storage, folder)


@contextmanager
def _downloaded(storage: Storage, folder: str, name: str) -> Iterator[Path]:
    """A local folder with a copy of a file; errors of the network name the folder that the file came from."""
    with tempfile.TemporaryDirectory() as temporary:
        storage.download(f"{folder}/{name}", Path(temporary) / name)
        try:
            yield Path(temporary)
        except TrainingError as error:
            raise TrainingError(str(error).replace(temporary, folder)) from error


def _read_settings(storage: Storage, folder: str) -> tuple[list[str], Preprocessing]:
    class_names = json.loads(storage.read_text(f"{folder}/class_names.json"))
    return class_names, preprocessing_of(storage.read_text(f"{folder}/experiment.yaml"))
