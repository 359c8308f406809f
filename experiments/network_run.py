"""The training run of a network: reads the data, trains and evaluates, and writes the run directory."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import SparkSession

from evaluation.runs import Run
from experiments.configuration import CnnExperiment
from experiments.data import clean_store, data_charts, open_sources, read_images, source_name
from experiments.initial_run import read_initial_run
from experiments.network_training import check_network, final_network, network_training
from experiments.resuming import unfinished_run
from experiments.run_directory import default_run, staged_run
from experiments.run_tracking import track_run
from experiments.stopwatch import Stopwatch
from models.calibration import Calibration
from models.export import metadata_of, to_onnx
from models.mirroring import weights_without_mirror
from models.prediction import predict_with_network
from models.saved_network import check_saved, save_network
from preprocessing.prepare import PreparedImages
from preprocessing.schema import TEST
from preprocessing.storage import Storage
from tracking.tensorboard_log import TensorBoardLog
from training.cluster.hosts import check_hosts, check_slots
from training.trained_network import TrainedNetwork
from training.trainer import train

if TYPE_CHECKING:
    from experiments.results import TrainedModel


def run_network(spark: SparkSession, experiment: CnnExperiment, stopwatch: Stopwatch) -> Run:
    """Train with Horovod and write the run directory.

    Args:
        spark: the Spark session.
        experiment: settings of the training; its ``run`` is the run directory.
        stopwatch: stopwatch that measures the stages of the job.
    """
    storage = Storage(spark)
    run = experiment.run or default_run("cnn")
    clean_store(storage, experiment)
    check_network(experiment)
    initial_run = None if experiment.from_run is None else read_initial_run(storage, experiment, experiment.from_run)
    board = None
    if experiment.tensorboard is not None:
        board = TensorBoardLog(experiment.tensorboard, run.rstrip("/").rsplit("/", 1)[-1])
    check_slots(spark, 1 if experiment.resume else experiment.num_proc)  # Horovod waits ten minutes for missing slots
    with (
        track_run(experiment, run) as tracker,
        staged_run(storage, run, experiment.overwrite, "cnn", experiment.resume) as staged,
        unfinished_run(storage, experiment, run, staged) as unfinished,
        open_sources(storage, experiment, unfinished.folder) as sources,
    ):
        check_hosts(spark, readable=list(sources.folders.values()), writable=[unfinished.folder, staged.uri])
        with stopwatch.stage("preprocessing"):
            prepared = read_images(spark, storage, sources, experiment)
            unfinished.check_rows(prepared)
        with data_charts(prepared, staged.local / "figures", source_name(experiment)), stopwatch.stage("training"):
            training = network_training(spark, storage, experiment, prepared, unfinished.folder, initial_run)
            listeners = [log.epoch for log in (tracker, board) if log is not None]
            profile_folder = f"{unfinished.folder}/profile" if experiment.profile else None
            training = replace(training, listeners=listeners, profile=profile_folder)
            trained = train(training, experiment.num_proc, experiment.max_restarts)

        from experiments.results import write_outcome  # imports Matplotlib, which was loaded during training

        if trained.profile is not None:
            storage.copy(f"{unfinished.folder}/profile", f"{staged.uri}/profile")
        network, calibration = final_network(experiment, prepared, trained.model)
        trained = replace(trained, model=network)
        model = _save_model(experiment, prepared, trained, calibration, staged.local / "model.keras")
        if initial_run is not None:
            model.extra_metrics["initial_run"] = initial_run.evaluate(prepared.split(TEST))
        content = (staged.local / "model.onnx").read_bytes()
        predictions = predict_with_network(prepared.split(TEST), content, prepared.class_names)
        finished = write_outcome(storage, staged, run, experiment, prepared, model, predictions, stopwatch)
    if tracker is not None:
        tracker.finish(storage, storage.absolute(run), experiment.register)
    return finished


def _save_model(
    experiment: CnnExperiment,
    prepared: PreparedImages,
    trained: TrainedNetwork,
    calibration: Calibration | None,
    path: Path,
) -> "TrainedModel":
    """Save the network, check the saved file, and return its description.

    It is also saved in ONNX format, for predictions.
    """
    from experiments.results import TrainedModel

    extra_metrics: dict[str, Any] = {"diagnostics": trained.findings}
    if trained.profile is not None:
        extra_metrics["profile"] = trained.profile
    if calibration is not None:
        extra_metrics["calibration"] = asdict(calibration)
    save_network(trained.model, path)
    check_saved(trained.model, path)
    metadata = metadata_of(prepared.class_names, experiment.preprocessing)
    path.with_suffix(".onnx").write_bytes(to_onnx(trained.model, metadata))
    return TrainedModel(
        job="cnn",
        name=experiment.network.name,
        parameters=sum(weights.size for weights in weights_without_mirror(trained.model)),
        parameters_are="parameters",
        size=path.stat().st_size,
        train=trained.summary(experiment.training),
        num_proc=experiment.num_proc,
        history=trained.history,
        failures=trained.failures,
        loss_curve=trained.loss_curve,
        extra_metrics=extra_metrics,
    )
