"""The run of a network: read, trained, judged, and written as one run directory."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import SparkSession

from evaluation.runs import Run
from jobs.data import clean_store, drawing, open_sources, read_images, source_name
from jobs.experiment import CnnExperiment
from jobs.run_directory import default_run, staged_run
from jobs.stopwatch import Stopwatch
from jobs.tensorboard_log import TensorBoardLog
from jobs.track_runs import track_run
from jobs.training import check_network, network_training
from jobs.unfinished import unfinished_run
from models.calibration import calibrate
from models.cluster import check_hosts, check_slots
from models.cnn import train
from models.prediction import predict_with_network
from models.saved_network import check_saved, save_network
from models.trained_network import TrainedNetwork
from preprocessing.prepare import PreparedImages
from preprocessing.schema import TEST, VALIDATION
from preprocessing.storage import Storage

if TYPE_CHECKING:
    from jobs.outcome import TrainedModel


def run_network(spark: SparkSession, experiment: CnnExperiment, text: str, watch: Stopwatch) -> Run:
    """Train with Horovod and write the run directory.

    Args:
        spark: the session.
        experiment: what is trained; its ``run`` is where it goes.
        text: all of it, as YAML.
        watch: the stages before.
    """
    storage = Storage(spark)
    run = experiment.run or default_run("cnn")
    clean_store(storage, experiment)
    check_network(experiment)
    board = None
    if experiment.tensorboard is not None:
        board = TensorBoardLog(experiment.tensorboard, run.rstrip("/").rsplit("/", 1)[-1])
    check_slots(spark, 1 if experiment.resume else experiment.num_proc)  # Horovod would wait ten minutes for them
    with (
        track_run(experiment, run, text) as tracker,
        staged_run(storage, run, experiment.overwrite, "cnn", experiment.resume) as staged,
        unfinished_run(storage, experiment, run, text, staged) as unfinished,
        open_sources(storage, experiment, unfinished.folder) as sources,
    ):
        check_hosts(spark, readable=list(sources.folders.values()), writable=[unfinished.folder, staged.uri])
        with watch.stage("preprocessing"):
            prepared = read_images(spark, storage, sources, experiment)
            unfinished.check_rows(prepared)
        with drawing(prepared, staged.local / "figures", source_name(experiment)), watch.stage("training"):
            training = network_training(spark, storage, experiment, prepared, unfinished.folder)
            listeners = [log.epoch for log in (tracker, board) if log is not None]
            recorded = f"{unfinished.folder}/profile" if experiment.profile else None
            training = replace(training, listeners=listeners, profile=recorded)
            trained = train(training, experiment.num_proc, experiment.max_restarts)

        from jobs.outcome import write_outcome  # brings Matplotlib, which was imported meanwhile

        if trained.profile is not None:
            storage.copy(f"{unfinished.folder}/profile", f"{staged.uri}/profile")
        model = _keep_model(experiment, prepared, trained, staged.local / "model.keras")
        predictions = predict_with_network(prepared.split(TEST), trained.model, prepared.classes)
        finished = write_outcome(storage, staged, run, experiment, text, prepared, model, predictions, watch)
    if tracker is not None:
        tracker.finish(storage, storage.absolute(run), experiment.register)
    return finished


def _keep_model(
    experiment: CnnExperiment, prepared: PreparedImages, trained: TrainedNetwork, path: Path
) -> "TrainedModel":
    """Calibrate the network, if that is wanted, save it, read it back, and say what is to be told of it."""
    from jobs.outcome import TrainedModel

    more: dict[str, Any] = {"watches": trained.findings}
    if trained.profile is not None:
        more["profile"] = trained.profile
    if experiment.training.calibration:
        validation = predict_with_network(prepared.split(VALIDATION), trained.model, prepared.classes)
        more["calibration"] = asdict(calibrate(trained.model, validation, prepared.classes))
    save_network(trained.model, path)
    check_saved(trained.model, path)
    return TrainedModel(
        job="cnn",
        name=experiment.network.name,
        weights=trained.model.count_params(),
        weights_are="weights",
        size=path.stat().st_size,
        train=trained.summary(experiment.training),
        num_proc=experiment.num_proc,
        history=trained.history,
        losses=trained.losses,
        loss_curve=trained.loss_curve,
        more=more,
    )
