"""Loading of finished runs for prediction, from any file system."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
from pyspark.sql import DataFrame

from evaluation.runs import Run, check_job
from experiments.run_directory import open_runs
from models.forest import load_forest
from models.prediction import predict_with_forest, predict_with_network
from models.saved_network import load_network
from preprocessing.data_settings import Preprocessing, preprocessing_of
from preprocessing.saved_pipeline import load_pipeline
from preprocessing.storage import Storage


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
    if run.about["job"] == "cnn":
        network, class_names, preprocessing = open_network(storage, run)
        return TrainedRun(
            run, class_names, preprocessing, lambda rows: predict_with_network(rows, network, class_names)
        )
    folder = storage.absolute(run.files)
    class_names, preprocessing = _read_settings(storage, folder)
    pipeline = load_pipeline(storage, f"{folder}/pipeline")
    forest = load_forest(storage, f"{folder}/model")
    return TrainedRun(
        run, class_names, preprocessing, lambda rows: predict_with_forest(rows, pipeline, forest, class_names)
    )


def open_network(storage: Storage, run: Run) -> tuple[keras.Model, list[str], Preprocessing]:
    """Load the network of a run of ``jobs/train_cnn.py``, its class names, and its preprocessing.

    Raises:
        RunError: another job wrote the run.
        TrainingError: the network cannot be loaded.
    """
    check_job(run, "cnn")
    folder = storage.absolute(run.files)
    with tempfile.TemporaryDirectory() as temporary:
        local = Path(temporary) / "model.keras"
        storage.download(f"{folder}/model.keras", local)
        return load_network(local), *_read_settings(storage, folder)


def _read_settings(storage: Storage, folder: str) -> tuple[list[str], Preprocessing]:
    class_names = json.loads(storage.read_text(f"{folder}/class_names.json"))
    return class_names, preprocessing_of(storage.read_text(f"{folder}/experiment.yaml"))
