"""The baseline: MLlib's random forest on the features of the preprocessing pipeline."""

import numpy as np
from pyspark.ml.classification import RandomForestClassificationModel, RandomForestClassifier
from pyspark.ml.feature import PCAModel
from pyspark.sql import DataFrame

from models.errors import TrainingError
from models.model_settings import Forest
from preprocessing.saved_pipeline import load_model
from preprocessing.storage import Storage


def train_forest(features: DataFrame, settings: Forest, seed: int) -> RandomForestClassificationModel:
    """Train the forest.

    Args:
        features: training rows with the columns ``id``, ``features`` and ``label_index``.
        settings: hyperparameters of the forest.
        seed: seed of the rows and pixels that each tree samples. The same seed on the same number of cores gives the
            same forest.
    """
    # Every partition computes and sends its own statistics for every node, so there is one partition per core. Rows are
    # sorted because the rows that a tree samples depend on their position in the partition.
    partitions = features.sparkSession.sparkContext.defaultParallelism
    features = features.repartition(partitions, "id").sortWithinPartitions("id").persist()
    classifier = RandomForestClassifier(
        featuresCol="features",
        labelCol="label_index",
        # Spark ML rejects subclasses of int, which jsonargparse creates.
        numTrees=int(settings.trees),
        maxDepth=int(settings.max_depth),
        maxBins=int(settings.max_bins),
        minInstancesPerNode=int(settings.min_instances_per_node),
        featureSubsetStrategy=settings.feature_subset,
        seed=int(seed),
        # This limit on statistics per task sets how many nodes are split in one pass over the rows. The default of
        # 256 MB needs more passes, and two tasks with 2 GB each do not fit into an executor with 4 GB.
        maxMemoryInMB=640,
        cacheNodeIds=True,
        checkpointInterval=-1,  # node ids are cheap to recompute
    )
    try:
        return classifier.fit(features)
    finally:
        features.unpersist()


def load_forest(storage: Storage, path: str) -> RandomForestClassificationModel:
    """Load the forest of a run.

    Raises:
        InputError: the path does not hold a random forest.
    """
    return load_model(storage, path, RandomForestClassificationModel)


def check_saved(storage: Storage, folder: str, forest: RandomForestClassificationModel) -> None:
    """Load a run's saved forest and compare it with the trained one.

    Raises:
        InputError: the forest cannot be loaded.
        TrainingError: the saved forest differs from the trained one.
    """
    saved = load_forest(storage, f"{folder}/model")
    if saved.totalNumNodes != forest.totalNumNodes or saved.featureImportances != forest.featureImportances:
        raise TrainingError(f"{folder}/model: its trees differ from those of the trained forest")


def pixel_importance(
    forest: RandomForestClassificationModel, shape: tuple[int, int, int], pca: PCAModel | None = None
) -> np.ndarray:
    """Return the feature importance of each pixel: ``float64``, shape ``(height, width)``, sum 1.

    For a forest on principal components, each component's importance is distributed over its pixels.
    """
    importance = forest.featureImportances.toArray()
    if pca is not None:
        importance = pca.pc.toArray() ** 2 @ importance
    return importance.reshape(shape).sum(axis=2)


def count_nodes(forest: RandomForestClassificationModel) -> int:
    """Count the splits and leaves of all trees."""
    return int(forest.totalNumNodes)
