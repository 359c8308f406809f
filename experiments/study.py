"""Common parts of the jobs that train several networks, evaluate each of them, and write one report."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from evaluation.metrics import add_confusions, grouped_interval, summarize
from evaluation.studies import Study, Training
from experiments.answering import count_hands, to_pictures
from experiments.configuration import NetworkExperiment
from experiments.data import clean_store, is_synthetic, open_sources, read_images, source_name, working_folder
from experiments.logs import LOGGER
from experiments.network_training import check_network, final_network
from experiments.run_directory import StagedRun, default_run, staged_run
from models.export import to_onnx
from models.prediction import effective_size, evaluate, predict_with_network, striking_predictions
from preprocessing.prepare import PreparedImages
from preprocessing.schema import TEST
from preprocessing.storage import Storage
from training.checkpoints import Checkpoints
from training.cluster.hosts import check_hosts, check_slots
from training.trainer import NetworkTraining, train

# The number of mistakes that the report shows of each training.
NUM_MISTAKES = 24


@dataclass(frozen=True)
class OpenStudy:
    """A study in progress.

    Args:
        run: path of the study's folder as the user gave it.
        staged: the folder in progress.
        folder: absolute path of a folder in the store, which is deleted when the job ends.
        prepared: all images.
        study: network and data, for the report.
    """

    run: str
    staged: StagedRun
    folder: str
    prepared: PreparedImages
    study: Study


@contextmanager
def open_study(spark: SparkSession, storage: Storage, experiment: NetworkExperiment, name: str) -> Iterator[OpenStudy]:
    """Check the settings, create the folders and read the images. The study is published when the block ends."""
    run = experiment.run or default_run(name)
    clean_store(storage, experiment)
    check_network(experiment)
    check_slots(spark, experiment.num_proc)
    folder = f"{storage.absolute(experiment.store)}/study-{uuid.uuid4().hex}"
    with (
        staged_run(storage, run, experiment.overwrite, name) as staged,
        working_folder(storage, experiment, folder),
        open_sources(storage, experiment, folder) as sources,
    ):
        check_hosts(spark, readable=list(sources.folders.values()), writable=[folder, staged.uri])
        (staged.local / "experiment.yaml").write_text(experiment.to_yaml(), encoding="utf-8")
        prepared = read_images(spark, storage, sources, experiment)
        study = Study(experiment.network.name, source_name(experiment), is_synthetic(experiment))
        yield OpenStudy(run, staged, folder, prepared, study)


@contextmanager
def open_subset(opened: OpenStudy, storage: Storage, images: DataFrame) -> Iterator[tuple[PreparedImages, str]]:
    """Prepare a subset or another split of a study's images for one training.

    Yields:
        The prepared images, and the absolute path of a folder in the store. Both are released when the block ends.
    """
    prepared, folder = opened.prepared.of(images), f"{opened.folder}/{uuid.uuid4().hex}"
    try:
        yield prepared, folder
    finally:
        storage.delete(folder)
        with suppress(Py4JError, OSError):  # on Ctrl-C, the JVM may have ended before this process
            prepared.release()


def train_and_evaluate(
    training: NetworkTraining,
    name: str,
    folder: str,
    experiment: NetworkExperiment,
    prepared: PreparedImages,
    in_detail: bool = False,
    **about: Any,
) -> Training:
    """Train a network, with separate checkpoints in ``folder``, and evaluate it on the test pictures.

    Args:
        training: the training; its checkpoints are replaced.
        name: name of the training in the output and the report.
        folder: absolute path of a folder in the store.
        experiment: settings of the training.
        prepared: the images.
        in_detail: count the hands and collect mistakes, and take groups of pictures as independent in the interval.
        **about: additional values for the report.
    """
    training = replace(training, checkpoints=Checkpoints(f"{folder}/checkpoints-{name}"))
    trained = train(training, experiment.num_proc, experiment.max_restarts)
    network, _ = final_network(experiment, prepared, trained.model)
    images = prepared.split(TEST)
    predictions = predict_with_network(images, to_onnx(network, {}), prepared.class_names).persist()
    evaluation = evaluate(predictions, prepared.class_names)
    test = summarize(add_confusions(evaluation.confusions, prepared.class_names), prepared.class_names) | {
        "loss": evaluation.loss
    }
    LOGGER.info(f"{name}: test accuracy {test['accuracy']:.4f}, loss {test['loss']:.4f}")
    evaluated = Training(name, trained.history, trained.best_epoch, trained.loss_curve, test, about)
    if in_detail:
        test["accuracy_interval"] = grouped_interval(test["accuracy"], effective_size(predictions, images))
        wrong = striking_predictions(predictions.where(F.col("letter") != F.col("label")), images, NUM_MISTAKES)
        evaluated = replace(evaluated, hands=count_hands(images), mistakes=to_pictures(wrong, prepared.shape))
    predictions.unpersist()
    return evaluated


def print_study(run: str, table: Any) -> None:
    LOGGER.info(f"{table.to_string(index=False)}\nreport {run}/report.html")
