"""Preparation of a network's training from its experiment."""

from pyspark.sql import SparkSession

from experiments.configuration import NetworkExperiment
from models.networks import build_network, unfreeze
from preprocessing.normalization import by_range
from preprocessing.prepare import PreparedImages
from preprocessing.schema import TRAIN, VALIDATION
from preprocessing.storage import Storage
from training.checkpoints import Checkpoints
from training.diagnostics.probe import Samples
from training.store import balanced, has_enough_part_files, training_store, write_rows
from training.trainer import NetworkTraining


def check_network(experiment: NetworkExperiment) -> None:
    """Check that the network can be built, before any long computation.

    Raises:
        TrainingError: the pictures are too small for the network, or the weights or the first layer for fine-tuning do
            not exist.
    """
    shape = experiment.preprocessing.shape
    model = build_network(experiment.network, shape, 2, by_range(shape[2]))
    if experiment.training.fine_tuning is not None:
        unfreeze(model, experiment.training.fine_tuning.layer)


def rows_per_epoch(experiment: NetworkExperiment, prepared: PreparedImages) -> int:
    """The number of rows per epoch: all training rows, including the repetitions that balance the sources."""
    sources = [rows[TRAIN] for rows in prepared.sources.values() if rows[TRAIN]]
    return max(sources) * len(sources) if experiment.training.balance else sum(sources)


def network_training(
    spark: SparkSession, storage: Storage, experiment: NetworkExperiment, prepared: PreparedImages, folder: str
) -> NetworkTraining:
    """Prepare the training.

    Args:
        spark: the Spark session.
        storage: the session's file systems.
        experiment: settings of the training.
        prepared: the images.
        folder: absolute path for the checkpoints, and for the rows if those in the store cannot be used as they are.
    """
    rows = rows_per_epoch(experiment, prepared)
    return NetworkTraining(
        spark,
        training_store(folder, training_rows(storage, experiment, prepared, folder)),
        Checkpoints(f"{folder}/checkpoints"),
        experiment.network,
        experiment.training,
        prepared.shape,
        len(prepared.class_names),
        prepared.normalization,
        rows,
        experiment.seed,
        # the subsets of a study have no samples of their own
        samples=Samples.of(prepared.samples) if experiment.training.diagnostics and prepared.folder else None,
    )


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
