"""Preparation of a network's training from its experiment."""

import time
from dataclasses import replace

import keras
from pyspark.sql import SparkSession

from experiments.configuration import NetworkExperiment
from experiments.initial_run import InitialRun
from experiments.logs import LOGGER
from models.calibration import Calibration, calibrate
from models.export import to_onnx
from models.frozen_layers import split_network
from models.mirroring import average_mirrored
from models.networks import build_network, unfreeze
from models.prediction import predict_with_network
from preprocessing.normalization import by_range
from preprocessing.prepare import PreparedImages
from preprocessing.schema import TRAIN, VALIDATION
from preprocessing.storage import Storage
from training.checkpoints import Checkpoints
from training.diagnostics.probe import Samples
from training.frozen_outputs import FrozenOutputs, to_bytes
from training.initial_network import InitialNetwork
from training.store import balanced, has_enough_part_files, training_store, write_rows
from training.trainer import NetworkTraining


def check_network(experiment: NetworkExperiment) -> None:
    """Check that the network can be built, before any long computation.

    Raises:
        TrainingError: the pictures are too small for the network, the weights or the first layer to train do not exist,
            or the network cannot be divided before that layer.
    """
    shape = experiment.preprocessing.shape
    model = build_network(experiment.network, shape, 2, by_range(shape[2]))
    if experiment.training.fine_tuning is not None:
        unfreeze(model, experiment.training.fine_tuning.layer)
    if experiment.training.augmented_pictures is not None:
        split_network(model)


def rows_per_epoch(experiment: NetworkExperiment, prepared: PreparedImages) -> int:
    """The number of rows per epoch: the augmented pictures, or all training rows with the repetitions for balance."""
    if experiment.training.augmented_pictures is not None:
        return int(experiment.training.augmented_pictures)
    sources = [rows[TRAIN] for rows in prepared.sources.values() if rows[TRAIN]]
    return max(sources) * len(sources) if experiment.training.balance else sum(sources)


def initial_network(
    experiment: NetworkExperiment, prepared: PreparedImages, initial_run: InitialRun | None = None
) -> InitialNetwork:
    """The network that a training of these images starts from, with the weights of an earlier run if one is given."""
    initial = InitialNetwork(
        experiment.network, prepared.shape, len(prepared.class_names), prepared.normalization, experiment.seed,
        split=experiment.training.augmented_pictures is not None,
    )  # fmt: skip
    if initial_run is None:
        return initial
    return replace(initial, weights=initial_run.weights(initial.build(), prepared.class_names))


def network_training(
    spark: SparkSession,
    storage: Storage,
    experiment: NetworkExperiment,
    prepared: PreparedImages,
    folder: str,
    initial_run: InitialRun | None = None,
) -> NetworkTraining:
    """Prepare the training.

    Args:
        spark: the Spark session.
        storage: the session's file systems.
        experiment: settings of the training.
        prepared: the images.
        folder: absolute path for the checkpoints, and for the rows if those in the store cannot be used as they are.
        initial_run: the run whose network is trained further. None: a new network is trained.
    """
    initial = initial_network(experiment, prepared, initial_run)
    # the subsets of a study have no samples of their own
    samples = Samples.of(prepared.samples) if experiment.training.diagnostics and prepared.folder else None
    if not initial.split:
        paths = training_rows(storage, experiment, prepared, folder)
    else:
        frozen = initial.frozen_layers()
        paths = _write_outputs(spark, storage, experiment, prepared, frozen, folder)
        if samples is not None:
            samples = replace(samples, pixels=to_bytes(frozen.predict(samples.pixels, verbose=0)))
    return NetworkTraining(
        spark,
        training_store(folder, paths),
        Checkpoints(f"{folder}/checkpoints"),
        initial,
        experiment.training,
        rows_per_epoch(experiment, prepared),
        experiment.seed,
        samples=samples,
    )


def final_network(
    experiment: NetworkExperiment, prepared: PreparedImages, network: keras.Model
) -> tuple[keras.Model, Calibration | None]:
    """The network that a run predicts with: calibrated, and averaged over mirror images, if the experiment says so.

    Args:
        experiment: settings of the training.
        prepared: the images; the validation pictures calibrate the network.
        network: the trained network.
    """
    calibration = None
    if experiment.training.calibration:
        validation = predict_with_network(prepared.split(VALIDATION), to_onnx(network, {}), prepared.class_names)
        calibration = calibrate(network, validation, prepared.class_names)
    if experiment.network.average_mirrored:
        network = average_mirrored(network, prepared.shape)
    return network, calibration


def _write_outputs(
    spark: SparkSession,
    storage: Storage,
    experiment: NetworkExperiment,
    prepared: PreparedImages,
    frozen: keras.Model,
    folder: str,
) -> dict[str, str]:
    """Write what comes out of the frozen layers for augmented training pictures and for validation pictures."""
    pictures = rows_per_epoch(experiment, prepared)
    outputs = FrozenOutputs(
        spark.sparkContext.broadcast(to_onnx(frozen, {})), prepared.shape, frozen.output_shape[1],
        experiment.training.augmentation, pictures, experiment.seed,
    )  # fmt: skip
    sizes = {TRAIN: pictures * outputs.row_bytes, VALIDATION: prepared.rows(VALIDATION) * outputs.row_bytes}
    LOGGER.info(
        f"augmenting {pictures:,} pictures, which pass through the frozen layers once:"
        f" {sum(sizes.values()) / 1e9:.2f} GB in the store"
    )
    start = time.perf_counter()
    features = prepared.pipeline.transform(prepared.images)
    paths = write_rows(features, storage, folder, experiment.num_proc, sizes, outputs)
    LOGGER.info(f"augmented, {pictures / (time.perf_counter() - start):,.0f} images/s")
    return paths


def training_rows(
    storage: Storage, experiment: NetworkExperiment, prepared: PreparedImages, folder: str
) -> dict[str, str]:
    """Return the path of each split's rows: those in the store, or else rows that are written to ``folder``.

    The rows in the store are used if sources need no balancing and each split has enough part files for all processes.
    """
    if prepared.folder and not experiment.training.balance:
        paths = {split: f"{prepared.folder}/{split}" for split in (TRAIN, VALIDATION)}
        if all(has_enough_part_files(storage, path, experiment.num_proc) for path in paths.values()):
            return paths
    features = prepared.pipeline.transform(prepared.images)
    if experiment.training.balance:
        features = balanced(features, {name: rows[TRAIN] for name, rows in prepared.sources.items() if rows[TRAIN]})
    sizes = {
        TRAIN: rows_per_epoch(experiment, prepared) * prepared.picture_bytes,
        VALIDATION: prepared.rows(VALIDATION) * prepared.picture_bytes,
    }
    return write_rows(features, storage, folder, experiment.num_proc, sizes)
