"""The baseline: MLlib's random forest on the pipeline's features."""

import numpy as np
from pyspark.ml.classification import RandomForestClassificationModel, RandomForestClassifier
from pyspark.ml.feature import PCAModel
from pyspark.sql import DataFrame

from models.errors import TrainingError
from models.settings import Forest
from preprocessing.saved_pipeline import load_model, load_pipeline
from preprocessing.storage import Storage


def train_forest(features: DataFrame, settings: Forest, seed: int) -> RandomForestClassificationModel:
    """Grow the forest.

    Args:
        features: the columns ``id``, ``features`` and ``label_index`` of the training rows.
        settings: the forest's own.
        seed: of the rows and pixels each tree is given; on as many cores, the same seed grows the same forest.
    """
    # Every partition has and sends statistics of its own for every node: no more partitions than cores. In one order:
    # which rows a tree is given follows from a row's place in its partition.
    partitions = features.sparkSession.sparkContext.defaultParallelism
    features = features.repartition(partitions, "id").sortWithinPartitions("id").persist()
    classifier = RandomForestClassifier(
        featuresCol="features",
        labelCol="label_index",
        # int(): Spark ML takes no subclass of it
        numTrees=int(settings.trees),
        maxDepth=int(settings.max_depth),
        maxBins=int(settings.max_bins),
        minInstancesPerNode=int(settings.min_instances_per_node),
        featureSubsetStrategy=settings.feature_subset,
        seed=int(seed),
        # As many nodes in one pass over the rows as this much statistics a task allow; the default of 256 MB makes more
        # passes, and two tasks of 2 GB do not fit into an executor of 4 GB.
        maxMemoryInMB=640,
        cacheNodeIds=True,
        checkpointInterval=-1,  # of the node ids: they are quickly found again
    )
    try:
        return classifier.fit(features)
    finally:
        features.unpersist()


def load_forest(storage: Storage, path: str) -> RandomForestClassificationModel:
    """Load the forest of a run.

    Raises:
        InputError: it is none.
    """
    return load_model(storage, path, RandomForestClassificationModel)


def check_saved(storage: Storage, folder: str, forest: RandomForestClassificationModel) -> None:
    """Read a run's pipeline and forest back, as the jobs that use them will.

    Raises:
        InputError: one of them cannot be loaded.
        TrainingError: the forest is another.
    """
    load_pipeline(storage, f"{folder}/pipeline")
    found = load_forest(storage, f"{folder}/model")
    if found.totalNumNodes != forest.totalNumNodes or found.featureImportances != forest.featureImportances:
        raise TrainingError(f"{folder}/model: has other trees than the forest that was saved there")


def pixel_importance(
    forest: RandomForestClassificationModel, shape: tuple[int, int, int], pca: PCAModel | None = None
) -> np.ndarray:
    """How much each pixel served to tell the classes apart: ``float64``, shape ``(height, width)``, sum 1.

    Of a forest on principal components, each component's importance is shared out among the pixels it is made of.
    """
    importance = forest.featureImportances.toArray()
    if pca is not None:
        importance = pca.pc.toArray() ** 2 @ importance
    return importance.reshape(shape).sum(axis=2)


def count_nodes(forest: RandomForestClassificationModel) -> int:
    """Splits and leaves of all trees."""
    return int(forest.totalNumNodes)
