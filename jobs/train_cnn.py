"""Train a convolutional network with Horovod on a Spark cluster.

    spark-submit jobs/train_cnn.py --config conf/sign_mnist.yaml --data DIR --run runs/cnn --num-proc 2

Without --data it trains on a synthetic sample, made on the spot.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.experiment import CnnExperiment, parse_experiment
from jobs.session import open_session, run_job


def main() -> None:
    experiment, text = parse_experiment(CnnExperiment, "Train a convolutional network with Horovod on Spark.")
    spark = open_session("train_cnn")

    from jobs.data import data_folder, read_images, source_name
    from jobs.outcome import Stopwatch, TrainedModel, say_outcome, write_outcome
    from jobs.run_directory import default_run, staged_run
    from jobs.unfinished import unfinished_run
    from models.checkpoints import Checkpoints
    from models.cluster import check_hosts, check_slots
    from models.cnn import NetworkTraining
    from models.prediction import predict_with_network
    from models.store import training_store
    from preprocessing.schema import TEST, TRAIN
    from preprocessing.storage import Storage

    storage, watch = Storage(spark), Stopwatch()
    run = experiment.run or default_run("cnn")
    check_slots(spark, 1 if experiment.resume else experiment.num_proc)  # Horovod would wait ten minutes for them
    with (
        unfinished_run(storage, experiment, run, text) as unfinished,
        staged_run(storage, run, experiment.overwrite) as staged,
        data_folder(storage, experiment, unfinished.folder) as folder,
    ):
        check_hosts(spark, readable=[folder], writable=[unfinished.folder, staged.uri])
        with watch.stage("preprocessing"):
            prepared = read_images(spark, storage, folder, experiment)
            unfinished.check_rows(prepared)
            features = prepared.pipeline.transform(prepared.images)
        with watch.stage("training"):
            training = NetworkTraining(
                spark,
                training_store(features, storage, unfinished.folder, experiment.num_proc),
                Checkpoints(unfinished.checkpoints),
                experiment.network.name,
                experiment.training,
                prepared.shape,
                len(prepared.classes),
                prepared.rows(TRAIN),
                experiment.seed,
            )
            trained = training.run(experiment.num_proc, experiment.max_restarts)
        path = staged.local / "model.keras"
        trained.model.save(path)
        model = TrainedModel(
            job="cnn",
            name=experiment.network.name,
            weights=trained.model.count_params(),
            weights_are="weights",
            size=path.stat().st_size,
            train=trained.summary(experiment.training),
            num_proc=experiment.num_proc,
            history=trained.history,
            losses=trained.losses,
        )
        predictions = predict_with_network(prepared.split(TEST), trained.model, prepared.classes)
        finished = write_outcome(
            staged, run, source_name(experiment), experiment.data is None, text, prepared, model, predictions, watch
        )
    say_outcome(finished)


if __name__ == "__main__":
    run_job(main)
