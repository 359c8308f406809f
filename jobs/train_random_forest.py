"""Train the baseline, a random forest of Spark MLlib, on the same features, split and labels as the networks.

    spark-submit jobs/train_random_forest.py --config conf/sign_mnist_forest.yaml --data DIR --run runs/forest

Without --data it trains on a synthetic sample, which the job generates.
"""

import sys
from pathlib import Path

# not __file__, which Databricks does not define
sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from experiments.command_line import parse_experiment, run_job
from experiments.configuration import ForestExperiment
from experiments.logs import LOGGER
from experiments.session import open_session
from experiments.stopwatch import Stopwatch


def main() -> None:
    experiment = parse_experiment(ForestExperiment, "Train a random forest with Spark MLlib.")
    spark = open_session("train_random_forest", ("experiments.results", "models.forest"))

    from experiments.data import clean_store, data_charts, open_sources, read_images, source_name
    from experiments.results import TrainedModel, print_outcome, write_outcome
    from experiments.run_directory import default_run, staged_run
    from experiments.run_tracking import track_run
    from models.forest import check_saved, count_nodes, pixel_importance, train_forest
    from models.prediction import predict_with_forest
    from preprocessing.features import fitted_pca
    from preprocessing.schema import TEST, TRAIN
    from preprocessing.storage import Storage
    from training.cluster.hosts import check_hosts

    storage, stopwatch = Storage(spark), Stopwatch()
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
        with data_charts(prepared, staged.local / "figures", source_name(experiment)), stopwatch.stage("training"):
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
    print_outcome(finished)


if __name__ == "__main__":
    run_job(main)
