"""The runs of several models on the same data, in one Spark session."""

import time
from collections.abc import Iterator

import yaml
from pyspark.sql import SparkSession

from evaluation.runs import RUN_FILE, Run
from experiments.configuration import COMPARISON, CnnExperiment, ForestExperiment, ModelsExperiment
from experiments.forest_run import run_forest
from experiments.logs import LOGGER
from experiments.network_run import run_network
from experiments.network_training import check_network
from experiments.results import print_outcome
from experiments.run_directory import check_target, open_runs
from experiments.stopwatch import Stopwatch
from preprocessing.errors import InputError
from preprocessing.storage import Storage
from training.cluster.hosts import check_slots

Trainings = dict[str, dict[int, CnnExperiment | ForestExperiment]]


def run_models(
    spark: SparkSession, storage: Storage, experiment: ModelsExperiment, folder: str
) -> dict[str, dict[int, Run]]:
    """Train each model with each seed, and write a run directory for each training.

    Args:
        spark: the Spark session.
        storage: the session's file systems.
        experiment: settings of the comparison.
        folder: path of the folder for the run directories.

    Returns:
        The runs by the name of the model and the seed.

    Raises:
        InputError: a run directory or the comparison exists, and is neither to be kept nor to be overwritten; or a run
            to keep was trained with other settings.
    """
    trainings = experiment.experiments(folder)
    finished = {str(run.path): run for run in _finished_runs(storage, experiment, trainings)}
    check_target(storage, f"{folder}/{COMPARISON}", experiment.overwrite or experiment.resume)
    for training in _each(trainings):
        if isinstance(training, CnnExperiment) and training.run not in finished:
            check_network(training)
            check_slots(spark, training.num_proc)
    total = len(list(_each(trainings)))
    for position, training in enumerate(_each(trainings), start=1):
        assert training.run is not None
        if training.run in finished:
            LOGGER.info(f"run {position} of {total}: {training.run}, which is finished")
            continue
        LOGGER.info(f"run {position} of {total}: {training.run}")
        try:
            finished[training.run] = _run(spark, training)
        except BaseException as error:
            if finished:
                error.add_note(f"{len(finished)} of {total} runs are finished, and --resume keeps them")
            raise
        print_outcome(finished[training.run])
    return {
        name: {seed: finished[str(training.run)] for seed, training in by_seed.items()}
        for name, by_seed in trainings.items()
    }


def _each(trainings: Trainings) -> Iterator[CnnExperiment | ForestExperiment]:
    for by_seed in trainings.values():
        yield from by_seed.values()


def _run(spark: SparkSession, training: CnnExperiment | ForestExperiment) -> Run:
    stopwatch = Stopwatch(time.monotonic())
    if isinstance(training, ForestExperiment):
        return run_forest(spark, training, stopwatch)
    return run_network(spark, training, stopwatch)


def _finished_runs(storage: Storage, experiment: ModelsExperiment, trainings: Trainings) -> Iterator[Run]:
    """The runs that are kept; all others are checked for whether they can be written."""
    for training in _each(trainings):
        assert training.run is not None
        if not experiment.resume or not storage.exists(f"{storage.absolute(training.run)}/{RUN_FILE}"):
            check_target(storage, training.run, experiment.overwrite)
            continue
        [run] = open_runs(storage, [training.run])
        settings = yaml.safe_load(storage.read_text(f"{storage.absolute(run.files)}/experiment.yaml"))
        differences = training.differences(settings)
        if differences:
            raise InputError(
                f"--resume: {training.run} was trained with {', '.join(differences)}: give the same, or --overwrite"
            )
        yield run
