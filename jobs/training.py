"""A network's training, as its experiment has it."""

from pyspark.sql import SparkSession

from jobs.experiment import NetworkExperiment
from models.checkpoints import Checkpoints
from models.cnn import NetworkTraining
from models.networks import build_network, unfreeze
from models.probe import Samples
from models.store import balanced, can_share, training_store, write_rows
from preprocessing.normalisation import by_range
from preprocessing.prepare import PreparedImages
from preprocessing.schema import TRAIN, VALIDATION
from preprocessing.storage import Storage


def check_network(experiment: NetworkExperiment) -> None:
    """Build the network once before any long work, to know that it can be.

    Raises:
        TrainingError: its pictures are too small, or its weights or the layer to tune from are not there.
    """
    shape = experiment.preprocessing.shape
    model = build_network(experiment.network, shape, 2, by_range(shape[2]))
    if experiment.training.fine_tuning is not None:
        unfreeze(model, experiment.training.fine_tuning.layer)


def rows_an_epoch(experiment: NetworkExperiment, prepared: PreparedImages) -> int:
    """Training rows, or so many as there are once smaller sources are repeated."""
    sources = [rows[TRAIN] for rows in prepared.sources.values() if rows[TRAIN]]
    return max(sources) * len(sources) if experiment.training.balance else sum(sources)


def network_training(
    spark: SparkSession, storage: Storage, experiment: NetworkExperiment, prepared: PreparedImages, folder: str
) -> NetworkTraining:
    """Get the training ready, in ``folder``, absolute; rows are written there where the prepared ones do not serve."""
    rows = rows_an_epoch(experiment, prepared)
    return NetworkTraining(
        spark,
        training_store(folder, training_rows(storage, experiment, prepared, folder)),
        Checkpoints(f"{folder}/checkpoints"),
        experiment.network,
        experiment.training,
        prepared.shape,
        len(prepared.classes),
        prepared.normalisation,
        rows,
        experiment.seed,
        # parts of a study have no samples of their own
        samples=Samples.of(prepared.samples) if experiment.training.watches and prepared.folder else None,
    )


def training_rows(
    storage: Storage, experiment: NetworkExperiment, prepared: PreparedImages, folder: str
) -> dict[str, str]:
    """Where the rows of each split lie; they are written into ``folder`` where the prepared ones do not serve."""
    if prepared.folder and not experiment.training.balance:
        paths = {split: f"{prepared.folder}/{split}" for split in (TRAIN, VALIDATION)}
        if all(can_share(storage, path, experiment.num_proc) for path in paths.values()):
            return paths
    features = prepared.pipeline.transform(prepared.images)
    if experiment.training.balance:
        features = balanced(features, {name: found[TRAIN] for name, found in prepared.sources.items() if found[TRAIN]})
    sizes = {
        TRAIN: rows_an_epoch(experiment, prepared) * prepared.picture_bytes,
        VALIDATION: prepared.rows(VALIDATION) * prepared.picture_bytes,
    }
    return write_rows(features, storage, folder, experiment.num_proc, sizes)
