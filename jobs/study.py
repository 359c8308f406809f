"""What jobs of several trainings have in common: each is trained and judged, and all go into one report."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import DataFrame, SparkSession

from evaluation.metrics import add_confusions, summarise
from evaluation.studies import Study, Training
from jobs.data import clean_store, is_synthetic, open_sources, read_images, source_name, working_folder
from jobs.experiment import NetworkExperiment
from jobs.run_directory import StagedRun, default_run, staged_run
from jobs.training import check_network
from models.calibration import calibrate
from models.checkpoints import Checkpoints
from models.cluster import check_hosts, check_slots
from models.cnn import NetworkTraining, train
from models.prediction import judge, predict_with_network
from preprocessing.prepare import PreparedImages
from preprocessing.schema import TEST, VALIDATION
from preprocessing.storage import Storage


@dataclass(frozen=True)
class OpenStudy:
    """A study in the making.

    Args:
        run: the folder it becomes, as the user calls it.
        staged: where it is written.
        folder: of the store, absolute, for the time of the job.
        prepared: all images.
        study: what its report says of them.
    """

    run: str
    staged: StagedRun
    folder: str
    prepared: PreparedImages
    study: Study


@contextmanager
def open_study(
    spark: SparkSession, storage: Storage, experiment: NetworkExperiment, text: str, name: str
) -> Iterator[OpenStudy]:
    """Check what can be checked, read the images, and make place; it appears whole when the block ends."""
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
        (staged.local / "experiment.yaml").write_text(text, encoding="utf-8")
        prepared = read_images(spark, storage, sources, experiment)
        study = Study(experiment.network.name, source_name(experiment), is_synthetic(experiment))
        yield OpenStudy(run, staged, folder, prepared, study)


@contextmanager
def part_of(opened: OpenStudy, storage: Storage, images: DataFrame) -> Iterator[tuple[PreparedImages, str]]:
    """Other rows, or other splits, of a study's images, and a folder of the store, for the time of one training."""
    prepared, folder = opened.prepared.of(images), f"{opened.folder}/{uuid.uuid4().hex}"
    try:
        yield prepared, folder
    finally:
        storage.delete(folder)
        with suppress(Py4JError, OSError):  # after Ctrl-C its JVM has gone first
            prepared.release()


def train_and_judge(
    training: NetworkTraining,
    name: str,
    folder: str,
    experiment: NetworkExperiment,
    prepared: PreparedImages,
    **about: Any,
) -> Training:
    """Train under ``name``, with checkpoints of its own in ``folder``, and predict the test pictures."""
    training = replace(training, checkpoints=Checkpoints(f"{folder}/checkpoints-{name}"))
    trained = train(training, experiment.num_proc, experiment.max_restarts)
    if experiment.training.calibration:
        validation = predict_with_network(prepared.split(VALIDATION), trained.model, prepared.classes)
        calibrate(trained.model, validation, prepared.classes)
    judged = judge(predict_with_network(prepared.split(TEST), trained.model, prepared.classes), prepared.classes)
    test = summarise(add_confusions(judged.confusions, prepared.classes), prepared.classes) | {"loss": judged.loss}
    print(f"{name}: test accuracy {test['accuracy']:.4f}, loss {test['loss']:.4f}", flush=True)
    return Training(name, trained.history, trained.best_epoch, trained.loss_curve, test, about)


def say_study(run: str, table: Any) -> None:
    print(f"{table.to_string(index=False)}\nreport {run}/report.html", flush=True)
