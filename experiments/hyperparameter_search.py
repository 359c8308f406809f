"""Hyperparameter search as a job: runs the trials on the cluster's task slots, and keeps the study and its report in a
folder."""

import hashlib
import shlex
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial, TrialState
from py4j.protocol import Py4JError
from pyspark.sql import SparkSession
from sqlalchemy.exc import SQLAlchemyError

from evaluation.search_report import write_search_report
from experiments.command_line import with_overrides
from experiments.configuration import CnnExperiment, SearchExperiment
from experiments.data import clean_store, is_synthetic, open_sources, read_images, source_name, working_folder
from experiments.logs import LOGGER
from experiments.network_training import check_network, initial_network, network_training, rows_per_epoch, training_rows
from experiments.run_directory import default_run
from experiments.run_tracking import track_search
from models.errors import TrainingError, without_password
from preprocessing.errors import InputError
from preprocessing.file_systems import local_path
from preprocessing.folds import with_folds
from preprocessing.prepare import PreparedImages
from preprocessing.publishing import held
from preprocessing.schema import TRAIN, VALIDATION
from preprocessing.storage import Storage
from training.cluster.horovod_backend import cores_a_process
from training.cluster.hosts import check_hosts, check_slots
from training.cluster.reports import TrialReporter, receiving
from training.store import Part, write_folds
from training.tuning.optuna_study import EPOCHS, FAILURE, Limits, finished, open_study, requeue, run_trials
from training.tuning.trials import TrialResult, TrialTask, train_trial

# User attributes of a study: the experiment and the fingerprint of the rows that it was created with.
EXPERIMENT, ROWS = "experiment", "rows"


def search(spark: SparkSession, experiment: SearchExperiment) -> optuna.Study:
    """Run the remaining trials of the study, and write its report."""
    storage = Storage(spark)
    target = storage.absolute(experiment.study)
    if experiment.database is None and not target.startswith("file:"):
        raise InputError(f"--study {experiment.study}: SQLite needs a local folder; give --database")
    if experiment.retrain and experiment.run and not experiment.overwrite and storage.exists(experiment.run):
        raise InputError(f"{experiment.run}: a run exists already; give another --run, or --overwrite to replace it")
    clean_store(storage, experiment)
    check_network(experiment)
    parallel = 1 if experiment.trial_processes else min(experiment.parallel, experiment.trials)
    if experiment.trial_processes:
        check_slots(spark, experiment.trial_processes, "--trial-processes")
    else:
        check_slots(spark, parallel, "--parallel")
    # another job with this study would consider the running trials lost, and queue them again
    with held(storage, target, f"--study {experiment.study}"):
        return _search(spark, storage, target, experiment, parallel)


def _search(
    spark: SparkSession, storage: Storage, target: str, experiment: SearchExperiment, parallel: int
) -> optuna.Study:
    study = _open_study(target, experiment)
    key = hashlib.sha256(target.encode()).hexdigest()[:8]
    folder = f"{storage.absolute(experiment.store)}/{target.rsplit('/', 1)[-1]}-{key}"
    storage.delete(folder)  # left by a killed job
    with working_folder(storage, experiment, folder), open_sources(storage, experiment, folder) as sources:
        check_hosts(spark, readable=list(sources.folders.values()), writable=[folder])
        prepared = read_images(spark, storage, sources, experiment)
        _check_rows(study, prepared)
        _run_trials(spark, storage, experiment, study, prepared, folder, parallel)
    _write_report(storage, target, experiment, study)
    return study


def best_experiment(study: optuna.Study, experiment: SearchExperiment) -> CnnExperiment:
    """Return the training with the values of the best trial."""
    values: dict[str, Any] = {
        "run": experiment.run or default_run("best"),
        "overwrite": experiment.overwrite,
        # the same command resumes an unfinished training, as it continues the study
        "resume": experiment.run is not None and not experiment.overwrite,
        "tracking": experiment.tracking,
    }
    best = with_overrides(experiment, study.best_params | values)
    LOGGER.info(f"training with the values of trial {study.best_trial.number}")
    return best


def _open_study(target: str, experiment: SearchExperiment) -> optuna.Study:
    url = experiment.database or f"sqlite:///{quote(str(local_path(target)))}/study.db"
    # in a shared database the full path makes the name of a study unique
    name = target if experiment.database else target.rsplit("/", 1)[-1]
    study = open_study(url, name, experiment.search, experiment.seed)
    fields = experiment.differences(study.user_attrs.get(EXPERIMENT) or experiment.to_dict())
    if fields:
        raise InputError(f"--study: the study began with {', '.join(fields)}: give the same, or another --study")
    study.set_user_attr(EXPERIMENT, experiment.to_dict())
    requeue(study)
    return study


def _check_rows(study: optuna.Study, prepared: PreparedImages) -> None:
    rows = prepared.counted.fingerprint
    if study.user_attrs.get(ROWS, rows) != rows:
        raise InputError("--study: the study began with other pictures: give the same --data, or another --study")
    study.set_user_attr(ROWS, rows)


def _run_trials(
    spark: SparkSession,
    storage: Storage,
    experiment: SearchExperiment,
    study: optuna.Study,
    prepared: PreparedImages,
    folder: str,
    parallel: int,
) -> None:
    parts = [] if experiment.trial_processes else _parts(storage, experiment, prepared, folder)

    def run(trial: optuna.Trial) -> TrialResult:
        resolved = with_overrides(experiment, trial.params)
        reports = experiment.search.folds or resolved.training.epochs
        with receiving(spark, trial) as address:
            reporter = TrialReporter(address, experiment.search.metric, reports)
            if experiment.trial_processes is not None:
                resolved = replace(resolved, num_proc=experiment.trial_processes)
                trial_folder = f"{folder}/trial-{trial.number}"
                try:
                    training = network_training(spark, storage, resolved, prepared, trial_folder)
                    return train_trial(replace(training, trial=reporter), resolved.num_proc, resolved.max_restarts)
                finally:
                    storage.delete(trial_folder)
            initial = initial_network(resolved, prepared)
            cores = cores_a_process(spark, parallel)
            return TrialTask(reporter, initial, resolved.training, parts, experiment.seed, cores).run(spark)

    num_finished = len(finished(study))
    if num_finished:
        LOGGER.info(f"going on with {num_finished} of {experiment.trials} trials")
    limits = Limits(experiment.trials, experiment.timeout, experiment.patience)
    with track_search(experiment) as track:

        def report(trial: FrozenTrial) -> None:
            _print_trial(trial)
            track(trial)

        def cancel() -> None:
            with suppress(Py4JError):  # on Ctrl-C, the JVM may have ended before this process
                spark.sparkContext.cancelAllJobs()

        try:
            run_trials(study, experiment.search, limits, parallel, run, cancel, report)
        except (OptunaError, SQLAlchemyError) as error:
            raise TrainingError(f"the study's database: {without_password(str(error).splitlines()[0])}") from error


def _parts(storage: Storage, experiment: SearchExperiment, prepared: PreparedImages, folder: str) -> list[Part]:
    """The rows of a trial's training, or of one training per fold."""
    if experiment.search.folds is not None:
        images = prepared.pipeline.transform(prepared.images)
        images = with_folds(images, experiment.search.folds, experiment.split_seed)
        return write_folds(images, storage, folder, experiment.search.folds, prepared.picture_bytes)
    rows = {TRAIN: rows_per_epoch(experiment, prepared), VALIDATION: prepared.rows(VALIDATION)}
    return [Part(dict(training_rows(storage, experiment, prepared, folder)), rows)]


def _print_trial(trial: FrozenTrial) -> None:
    values = ", ".join(
        f"{field_name.split('.', 1)[1]} {f'{value:.3g}' if isinstance(value, float) else value}"
        for field_name, value in trial.params.items()
    )
    if trial.state == TrialState.COMPLETE:
        result = f"{trial.value:.4f} after {trial.user_attrs[EPOCHS]} epochs"
    elif trial.state == TrialState.PRUNED:
        result = f"stopped after {trial.user_attrs[EPOCHS]} epochs, others were better"
    else:
        result = f"failed: {trial.user_attrs[FAILURE]}"
    LOGGER.info(f"trial {trial.number}: {result}; {values}")


def _write_report(storage: Storage, target: str, experiment: SearchExperiment, study: optuna.Study) -> None:
    data = f" --data {shlex.quote(experiment.data)}" if experiment.data else ""
    config = f"--config {experiment.study}/trials/{{trial}}.yaml{data}"
    processes = f"--num-proc {experiment.trial_processes or 1}"
    command = f"spark-submit jobs/train_cnn.py {config} {processes} --run runs/trial-{{trial}}"
    trials = finished(study)
    with tempfile.TemporaryDirectory() as temporary:
        local = Path(temporary)
        (local / "trials").mkdir()
        for trial in trials:
            resolved = with_overrides(experiment, trial.params | {"run": None}).to_yaml()
            (local / "trials" / f"{trial.number}.yaml").write_text(resolved, encoding="utf-8")
        table = write_search_report(
            local, study, experiment.search.metric, trials, source_name(experiment), is_synthetic(experiment), command
        )
        for item in sorted(local.iterdir()):
            storage.delete(f"{target}/{item.name}")
            storage.upload(item, f"{target}/{item.name}")
    LOGGER.info(f"{table.head(10).to_string(index=False)}\nreport {experiment.study}/report.html")
