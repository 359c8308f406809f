"""A search as a job: its trials on the task slots of the cluster, its study in a folder, its report."""

import hashlib
import shlex
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState
from pyspark.sql import SparkSession

from evaluation.search import write_search_report
from jobs.data import is_synthetic, make_store_folder, open_sources, read_images, source_name
from jobs.experiment import CnnExperiment, SearchExperiment, with_values
from jobs.run_directory import default_run
from jobs.track_runs import track_search
from jobs.training import check_network, network_training, rows_an_epoch, training_rows
from models.cluster import check_hosts, check_slots
from models.horovod_backend import cores_a_process
from models.search import EPOCHS, FAILURE, Limits, finished, open_study, run_trials
from models.store import Part, write_folds
from models.trial_server import TrialAddress, trial_server
from models.trials import TrialResult, TrialTask, train_trial
from preprocessing.errors import InputError
from preprocessing.folds import with_folds
from preprocessing.prepare import PreparedImages
from preprocessing.schema import TRAIN, VALIDATION
from preprocessing.storage import Storage, local_path

# What may differ from one start of a study to the next.
OF_THE_CALL = (
    "study", "trials", "parallel", "trial_processes", "database", "limit", "plateau", "retrain", "search",
    "num_proc", "max_restarts", "overwrite", "store", "run", "data", "tracking", "register", "tensorboard",
)  # fmt: skip


def search(spark: SparkSession, experiment: SearchExperiment, text: str) -> optuna.Study:
    """Run the trials that are left, and write the report."""
    storage = Storage(spark)
    target = storage.absolute(experiment.study).rstrip("/")
    if experiment.database is None and not target.startswith("file:"):
        raise InputError(f"--study {experiment.study}: SQLite needs a local folder; give --database")
    check_network(experiment)
    parallel = 1 if experiment.trial_processes else min(experiment.parallel, experiment.trials)
    if experiment.trial_processes:
        check_slots(spark, experiment.trial_processes, "--trial-processes")
    else:
        check_slots(spark, parallel, "--parallel")
    study = _open(storage, target, experiment, text)
    key = hashlib.sha256(target.encode()).hexdigest()[:8]
    folder = f"{storage.absolute(experiment.store)}/{target.rsplit('/', 1)[-1]}-{key}"
    storage.delete(folder)  # a killed job has left it
    made = storage.missing_folders(folder)
    make_store_folder(storage, experiment, folder)
    try:
        with open_sources(storage, experiment, folder) as sources:
            check_hosts(spark, readable=list(sources.folders.values()), writable=[folder])
            prepared = read_images(spark, storage, sources, experiment)
            _check_rows(study, prepared)
            _run(spark, storage, experiment, text, study, prepared, folder, parallel)
    finally:
        storage.delete_made(folder, made)
    _report(storage, target, experiment, text, study)
    return study


def best_experiment(study: optuna.Study, experiment: SearchExperiment, text: str) -> tuple[CnnExperiment, str]:
    """The training with the best values, and all of it as YAML."""
    values: dict[str, Any] = {"run": experiment.run or default_run("best"), "overwrite": experiment.overwrite}
    return with_values(text, study.best_params | values)


def _open(storage: Storage, target: str, experiment: SearchExperiment, text: str) -> optuna.Study:
    try:
        storage.make_folder(target)
    except Exception as error:
        raise InputError(f"--study {experiment.study}: cannot be written: {error}") from error
    url = experiment.database or f"sqlite:///{local_path(target)}/study.db"
    common = {name: value for name, value in yaml.safe_load(text).items() if name not in OF_THE_CALL}
    common |= {"folds": experiment.search.folds}
    return open_study(url, target.rsplit("/", 1)[-1], experiment.search, common, experiment.seed)


def _check_rows(study: optuna.Study, prepared: PreparedImages) -> None:
    if study.user_attrs.setdefault("rows", prepared.counted.fingerprint) != prepared.counted.fingerprint:
        raise InputError("--study: it began with other pictures: give the same --data, or another --study")
    study.set_user_attr("rows", prepared.counted.fingerprint)


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
                training = network_training(spark, storage, tried, prepared, own)
                return train_trial(replace(training, trial=address), tried.num_proc, tried.max_restarts)
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

            run_trials(study, experiment.search, limits, parallel, run, spark.sparkContext.cancelAllJobs, told)


def _parts(storage: Storage, experiment: SearchExperiment, prepared: PreparedImages, folder: str) -> list[Part]:
    """The rows of a trial's training, or of those of its folds."""
    if experiment.search.folds is not None:
        images = prepared.pipeline.transform(prepared.images)
        dealt = with_folds(images, experiment.search.folds, experiment.seed)
        return write_folds(dealt, storage, folder, experiment.search.folds)
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
    config = f"--config {experiment.study}/trials/{{trial}}.yaml"
    command = f"spark-submit jobs/train_cnn.py {config}{data} --run runs/trial-{{trial}}"
    trials = finished(study)
    with tempfile.TemporaryDirectory() as local:
        made = Path(local)
        (made / "trials").mkdir()
        for trial in trials:
            _, resolved = with_values(text, trial.params | {"run": None})
            (made / "trials" / f"{trial.number}.yaml").write_text(resolved)
        table = write_search_report(made, study, trials, source_name(experiment), is_synthetic(experiment), command)
        for item in sorted(made.iterdir()):
            storage.delete(f"{target}/{item.name}")
            storage.upload(item, f"{target}/{item.name}")
    print(f"{table.head(10).to_string(index=False)}\nreport {experiment.study}/report.html", flush=True)
