"""The runs of several models on the same data, in one Spark session, and their comparison."""

import time
from collections.abc import Iterator

import yaml
from pyspark.sql import SparkSession

from evaluation.runs import RUN_FILE, Run
from experiments.comparing import write_comparison
from experiments.configuration import COMPARISON, CnnExperiment, ForestExperiment, ModelsExperiment
from experiments.forest_run import run_forest
from experiments.logs import LOGGER
from experiments.network_run import run_network
from experiments.network_training import check_network
from experiments.results import print_outcome
from experiments.run_directory import check_target, default_run, open_runs
from experiments.stopwatch import Stopwatch
from preprocessing.errors import InputError
from preprocessing.storage import Storage
from training.cluster.hosts import check_slots


def compare_models(spark: SparkSession, experiment: ModelsExperiment) -> None:
    """Train each model with each seed, write a run directory for each training, and compare the runs.

    Args:
        spark: the Spark session.
        experiment: settings of the comparison; its ``run`` is the folder for the run directories.

    Raises:
        InputError: a run directory or the comparison exists, and is neither to be kept nor to be overwritten; or a run
            to keep was trained with other settings.
    """
    storage = Storage(spark)
    folder = (experiment.run or default_run("models")).rstrip("/")
    comparison, overwrite = f"{folder}/{COMPARISON}", experiment.overwrite or experiment.resume
    by_model = experiment.experiments(folder)
    trainings = [training for trainings in by_model.values() for training in trainings]
    finished = {run.path: run for run in _finished_runs(storage, experiment, trainings)}
    check_target(storage, comparison, overwrite)
    for first, *_ in by_model.values():  # trainings with other seeds have the same network
        if isinstance(first, CnnExperiment):
            check_network(first)
            check_slots(spark, first.num_proc)
    for position, training in enumerate(trainings, start=1):
        run = str(training.run)
        LOGGER.info(f"run {position} of {len(trainings)}: {run}{', which is finished' if run in finished else ''}")
        if run in finished:
            continue
        try:
            finished[run] = _run(spark, training)
        except BaseException as error:
            if finished:
                error.add_note(
                    f"{len(finished)} of {len(trainings)} runs are finished: the same command with"
                    f" --run {folder} --resume keeps them"
                )
            raise
        print_outcome(finished[run])
    models = {name: [finished[str(training.run)] for training in trainings] for name, trainings in by_model.items()}
    write_comparison(spark, storage, models, comparison, overwrite)


def _run(spark: SparkSession, training: CnnExperiment | ForestExperiment) -> Run:
    stopwatch = Stopwatch(time.monotonic())
    if isinstance(training, ForestExperiment):
        return run_forest(spark, training, stopwatch)
    return run_network(spark, training, stopwatch)


def _finished_runs(
    storage: Storage, experiment: ModelsExperiment, trainings: list[CnnExperiment | ForestExperiment]
) -> Iterator[Run]:
    """The runs that are kept; all others are checked for whether they can be written."""
    for training in trainings:
        path = str(training.run)
        if not experiment.resume or not storage.exists(f"{storage.absolute(path)}/{RUN_FILE}"):
            check_target(storage, path, experiment.overwrite)
            continue
        [run] = open_runs(storage, [path])
        settings = yaml.safe_load(storage.read_text(f"{storage.absolute(run.files)}/experiment.yaml"))
        differences = training.differences(settings)
        if differences:
            raise InputError(
                f"--resume: {path} was trained with {', '.join(differences)}: give the same, or --overwrite"
            )
        yield run
