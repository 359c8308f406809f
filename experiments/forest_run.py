"""The training run of a random forest: reads the data, trains and evaluates, and writes the run directory."""

from pyspark.sql import SparkSession

from evaluation.runs import Run
from experiments.configuration import ForestExperiment
from experiments.data import clean_store, data_charts, open_sources, read_images, source_name
from experiments.logs import LOGGER
from experiments.results import TrainedModel, write_outcome
from experiments.run_directory import default_run, staged_run
from experiments.run_tracking import track_run
from experiments.stopwatch import Stopwatch
from models.forest import check_saved, count_nodes, pixel_importance, train_forest
from models.prediction import predict_with_forest
from preprocessing.features import fitted_pca
from preprocessing.schema import TEST, TRAIN
from preprocessing.steps import step
from preprocessing.storage import Storage
from training.cluster.hosts import check_hosts


def run_forest(spark: SparkSession, experiment: ForestExperiment, stopwatch: Stopwatch) -> Run:
    """Train with Spark MLlib and write the run directory.

    Args:
        spark: the Spark session.
        experiment: settings of the training; its ``run`` is the run directory.
        stopwatch: stopwatch that measures the stages of the job.
    """
    storage = Storage(spark)
    run = experiment.run or default_run("forest")
    clean_store(storage, experiment)
    with (
        track_run(experiment, run) as tracker,
        staged_run(storage, run, experiment.overwrite, "forest") as staged,
        open_sources(storage, experiment, experiment.store) as sources,
    ):
        check_hosts(spark, readable=list(sources.folders.values()), writable=[sources.work, staged.uri])
        with stopwatch.stage("preprocessing"):
            prepared = read_images(spark, storage, sources, experiment)
            features = prepared.pipeline.transform(prepared.split(TRAIN)).select("id", "features", "label_index")
        LOGGER.info(f"growing {experiment.forest.trees} trees, {experiment.forest.max_depth} deep at most")
        with (
            data_charts(prepared, staged.local / "figures", source_name(experiment)),
            stopwatch.stage("training"),
            step(spark, "growing trees"),
        ):
            forest = train_forest(features, experiment.forest, experiment.seed)
        forest.write().save(f"{staged.uri}/model")
        pca = fitted_pca(prepared.pipeline)
        model = TrainedModel(
            job="forest",
            name="random forest",
            parameters=count_nodes(forest),
            parameters_are="nodes",
            size=storage.size(f"{staged.uri}/model"),
            train={"images_per_second": prepared.rows(TRAIN) / stopwatch.seconds["training"], "epochs": 0},
            num_proc=spark.sparkContext.defaultParallelism,
            importance=pixel_importance(forest, prepared.shape, pca),
            extra_metrics={
                "pca": pca and {"components": pca.getK(), "variance": float(pca.explainedVariance.toArray().sum())}
            },
        )
        predictions = predict_with_forest(prepared.split(TEST), prepared.pipeline, forest, prepared.class_names)
        finished = write_outcome(storage, staged, run, experiment, prepared, model, predictions, stopwatch)
        check_saved(storage, staged.uri, forest)
    if tracker is not None:
        tracker.finish(storage, storage.absolute(run), experiment.register)
    return finished
