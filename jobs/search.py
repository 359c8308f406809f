"""A search as a job: its trials on the task slots of the cluster, its study in a folder, its report."""

import hashlib
import shlex
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
import yaml
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial, TrialState
from py4j.protocol import Py4JError
from pyspark.sql import SparkSession
from sqlalchemy.exc import SQLAlchemyError

from evaluation.search import write_search_report
from jobs.command_line import with_values
from jobs.data import clean_store, is_synthetic, open_sources, read_images, source_name, working_folder
from jobs.experiment import CnnExperiment, SearchExperiment, differences
from jobs.run_directory import default_run
from jobs.track_runs import track_search
from jobs.training import check_network, network_training, rows_an_epoch, training_rows
from models.cluster import check_hosts, check_slots
from models.errors import TrainingError, without_password
from models.horovod_backend import cores_a_process
from models.search import EPOCHS, FAILURE, Limits, finished, open_study, requeue, run_trials
from models.store import Part, write_folds
from models.trial_server import TrialAddress, trial_server
from models.trials import TrialResult, TrialTask, train_trial
from preprocessing.errors import InputError
from preprocessing.folds import with_folds
from preprocessing.prepare import PreparedImages
from preprocessing.publishing import held
from preprocessing.schema import TRAIN, VALIDATION
from preprocessing.storage import Storage, local_path

# What a study keeps of its beginning.
EXPERIMENT, ROWS = "experiment", "rows"


def search(spark: SparkSession, experiment: SearchExperiment, text: str) -> optuna.Study:
    """Run the trials that are left, and write the report."""
    storage = Storage(spark)
    target = storage.absolute(experiment.study)
    if experiment.database is None and not target.startswith("file:"):
        raise InputError(f"--study {experiment.study}: SQLite needs a local folder; give --database")
    if experiment.retrain and experiment.run and not experiment.overwrite and storage.exists(experiment.run):
        raise InputError(f"{experiment.run}: there is a run already; give another --run, or --overwrite to replace it")
    clean_store(storage, experiment)
    check_network(experiment)
    parallel = 1 if experiment.trial_processes else min(experiment.parallel, experiment.trials)
    if experiment.trial_processes:
        check_slots(spark, experiment.trial_processes, "--trial-processes")
    else:
        check_slots(spark, parallel, "--parallel")
    # who ran it too would take our trials for lost ones
    with held(storage, target, f"--study {experiment.study}"):
        return _search(spark, storage, target, experiment, text, parallel)


def _search(
    spark: SparkSession, storage: Storage, target: str, experiment: SearchExperiment, text: str, parallel: int
) -> optuna.Study:
    study = _open(target, experiment, text)
    key = hashlib.sha256(target.encode()).hexdigest()[:8]
    folder = f"{storage.absolute(experiment.store)}/{target.rsplit('/', 1)[-1]}-{key}"
    storage.delete(folder)  # a killed job has left it
    with working_folder(storage, experiment, folder), open_sources(storage, experiment, folder) as sources:
        check_hosts(spark, readable=list(sources.folders.values()), writable=[folder])
        prepared = read_images(spark, storage, sources, experiment)
        _check_rows(study, prepared)
        _run(spark, storage, experiment, text, study, prepared, folder, parallel)
    _report(storage, target, experiment, text, study)
    return study


def best_experiment(study: optuna.Study, experiment: SearchExperiment, text: str) -> tuple[CnnExperiment, str]:
    """The training with the best values, and all of it as YAML."""
    values: dict[str, Any] = {
        "run": experiment.run or default_run("best"),
        "overwrite": experiment.overwrite,
        # the same command goes on with it, as it does with the study
        "resume": experiment.run is not None and not experiment.overwrite,
        "tracking": experiment.tracking,
    }
    best, resolved = with_values(text, study.best_params | values)
    print(f"training with the values of trial {study.best_trial.number}", flush=True)
    return best, resolved


def _open(target: str, experiment: SearchExperiment, text: str) -> optuna.Study:
    url = experiment.database or f"sqlite:///{quote(str(local_path(target)))}/study.db"
    # in a database that others use too, a study's name is all of its path
    name = target if experiment.database else target.rsplit("/", 1)[-1]
    study = open_study(url, name, experiment.search, experiment.seed)
    now = yaml.safe_load(text)
    fields = differences(study.user_attrs.get(EXPERIMENT) or now, now)
    if fields:
        raise InputError(f"--study: it began with {', '.join(fields)}: give the same, or another --study")
    study.set_user_attr(EXPERIMENT, now)
    requeue(study)
    return study


def _check_rows(study: optuna.Study, prepared: PreparedImages) -> None:
    rows = prepared.counted.fingerprint
    if study.user_attrs.get(ROWS, rows) != rows:
        raise InputError("--study: it began with other pictures: give the same --data, or another --study")
    study.set_user_attr(ROWS, rows)


def _run(
    spark: SparkSession,
    storage: Storage,
    experiment: SearchExperiment,
    text: str,
    study: optuna.Study,
    prepared: PreparedImages,
    folder: str,
    parallel: int,
) -> None:
    parts = [] if experiment.trial_processes else _parts(storage, experiment, prepared, folder)
    with trial_server(spark) as server:

        def run(trial: optuna.Trial) -> TrialResult:
            server.trials[trial.number] = trial
            tried, _ = with_values(text, trial.params)
            reports = experiment.search.folds or tried.training.epochs
            address = TrialAddress(server.address, trial.number, experiment.search.metric, reports)
            if experiment.trial_processes is not None:
                tried = replace(tried, num_proc=experiment.trial_processes)
                own = f"{folder}/trial-{trial.number}"
                try:
                    training = network_training(spark, storage, tried, prepared, own)
                    return train_trial(replace(training, trial=address), tried.num_proc, tried.max_restarts)
                finally:
                    storage.delete(own)
            return TrialTask(
                address, tried.network, tried.training, prepared.shape, len(prepared.classes), prepared.normalisation,
                parts, experiment.seed, cores_a_process(spark, parallel),
            ).run(spark)  # fmt: skip

        before = len(finished(study))
        if before:
            print(f"going on with {before} of {experiment.trials} trials", flush=True)
        limits = Limits(experiment.trials, experiment.limit, experiment.plateau)
        with track_search(experiment, text) as track:

            def told(trial: FrozenTrial) -> None:
                _say(trial)
                track(trial)

            def cancel() -> None:
                with suppress(Py4JError):  # after Ctrl-C its JVM has gone first
                    spark.sparkContext.cancelAllJobs()

            try:
                run_trials(study, experiment.search, limits, parallel, run, cancel, told)
            except (OptunaError, SQLAlchemyError) as error:
                raise TrainingError(f"the study's database: {without_password(str(error).splitlines()[0])}") from error


def _parts(storage: Storage, experiment: SearchExperiment, prepared: PreparedImages, folder: str) -> list[Part]:
    """The rows of a trial's training, or of those of its folds."""
    if experiment.search.folds is not None:
        images = prepared.pipeline.transform(prepared.images)
        dealt = with_folds(images, experiment.search.folds, experiment.seed)
        return write_folds(dealt, storage, folder, experiment.search.folds, prepared.picture_bytes)
    rows = {TRAIN: rows_an_epoch(experiment, prepared), VALIDATION: prepared.rows(VALIDATION)}
    return [Part(dict(training_rows(storage, experiment, prepared, folder)), rows)]


def _say(trial: FrozenTrial) -> None:
    values = ", ".join(
        f"{place.split('.', 1)[1]} {f'{value:.3g}' if isinstance(value, float) else value}"
        for place, value in trial.params.items()
    )
    if trial.state == TrialState.COMPLETE:
        end = f"{trial.value:.4f} after {trial.user_attrs[EPOCHS]} epochs"
    elif trial.state == TrialState.PRUNED:
        end = f"stopped after {trial.user_attrs[EPOCHS]} epochs, others were better"
    else:
        end = f"failed: {trial.user_attrs[FAILURE]}"
    print(f"trial {trial.number}: {end}; {values}", flush=True)


def _report(storage: Storage, target: str, experiment: SearchExperiment, text: str, study: optuna.Study) -> None:
    data = f" --data {shlex.quote(experiment.data)}" if experiment.data else ""
    config = f"--config {experiment.study}/trials/{{trial}}.yaml{data}"
    processes = f"--num-proc {experiment.trial_processes or 1}"
    command = f"spark-submit jobs/train_cnn.py {config} {processes} --run runs/trial-{{trial}}"
    trials = finished(study)
    with tempfile.TemporaryDirectory() as local:
        made = Path(local)
        (made / "trials").mkdir()
        for trial in trials:
            _, resolved = with_values(text, trial.params | {"run": None})
            (made / "trials" / f"{trial.number}.yaml").write_text(resolved, encoding="utf-8")
        table = write_search_report(
            made, study, experiment.search.metric, trials, source_name(experiment), is_synthetic(experiment), command
        )
        for item in sorted(made.iterdir()):
            storage.delete(f"{target}/{item.name}")
            storage.upload(item, f"{target}/{item.name}")
    print(f"{table.head(10).to_string(index=False)}\nreport {experiment.study}/report.html", flush=True)
