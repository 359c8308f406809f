"""A finished run to predict with, wherever it lies."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
from pyspark.sql import DataFrame

from evaluation.runs import Run, check_job
from jobs.run_directory import open_runs
from models.forest import load_forest
from models.prediction import predict_with_forest, predict_with_network
from models.saved_network import load_network
from preprocessing.saved_pipeline import load_pipeline
from preprocessing.settings import Preprocessing, preprocessing_of
from preprocessing.storage import Storage


@dataclass(frozen=True)
class TrainedRun:
    """What a run predicts with.

    Args:
        run: the run.
        classes: in the order of the probabilities.
        preprocessing: what was done with its pictures.
        predict: gives the columns of ``PREDICTIONS`` for the columns id, source, label and pixels.
    """

    run: Run
    classes: list[str]
    preprocessing: Preprocessing
    predict: Callable[[DataFrame], DataFrame]


def open_trained_run(storage: Storage, path: str) -> TrainedRun:
    """Open a run of ``jobs/train_cnn.py`` or ``jobs/train_random_forest.py``.

    Raises:
        RunError: it is none.
        TrainingError: its network cannot be loaded.
        InputError: its pipeline or its forest cannot be loaded.
    """
    (run,) = open_runs(storage, [path])
    check_job(run, "cnn", "forest")
    if run.about["job"] == "cnn":
        network, classes, settings = open_network(storage, run)
        return TrainedRun(run, classes, settings, lambda rows: predict_with_network(rows, network, classes))
    folder = storage.absolute(run.files)
    classes, settings = _about(storage, folder)
    pipeline = load_pipeline(storage, f"{folder}/pipeline")
    forest = load_forest(storage, f"{folder}/model")
    return TrainedRun(run, classes, settings, lambda rows: predict_with_forest(rows, pipeline, forest, classes))


def open_network(storage: Storage, run: Run) -> tuple[keras.Model, list[str], Preprocessing]:
    """The network of a run of ``jobs/train_cnn.py``, its classes, and what was done with its pictures.

    Raises:
        RunError: the run is of another job.
        TrainingError: it cannot be loaded.
    """
    check_job(run, "cnn")
    folder = storage.absolute(run.files)
    with tempfile.TemporaryDirectory() as local:
        copy = Path(local) / "model.keras"
        storage.download(f"{folder}/model.keras", copy)
        return load_network(copy), *_about(storage, folder)


def _about(storage: Storage, folder: str) -> tuple[list[str], Preprocessing]:
    classes = json.loads(storage.read_text(f"{folder}/classes.json"))
    return classes, preprocessing_of(storage.read_text(f"{folder}/experiment.yaml"))
