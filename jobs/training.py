"""A network's training, as its experiment has it."""

import math

from pyspark.sql import SparkSession

from jobs.experiment import NetworkExperiment
from models.checkpoints import Checkpoints
from models.cnn import NetworkTraining
from models.networks import build_network, unfreeze
from models.store import balanced, training_store
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
    """Write the rows for Horovod to ``folder``, absolute, and get the training ready."""
    features = prepared.pipeline.transform(prepared.images)
    sources = {name: rows[TRAIN] for name, rows in prepared.sources.items() if rows[TRAIN]}
    if experiment.training.balance:
        features = balanced(features, sources)
    rows = rows_an_epoch(experiment, prepared)
    sizes = {TRAIN: rows * math.prod(prepared.shape), VALIDATION: prepared.rows(VALIDATION) * math.prod(prepared.shape)}
    return NetworkTraining(
        spark,
        training_store(features, storage, folder, experiment.num_proc, sizes),
        Checkpoints(f"{folder}/checkpoints"),
        experiment.network,
        experiment.training,
        prepared.shape,
        len(prepared.classes),
        prepared.normalisation,
        rows,
        experiment.seed,
    )
