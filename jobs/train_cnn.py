"""Train a convolutional network with Horovod on a Spark cluster.

    spark-submit jobs/train_cnn.py --config conf/sign_mnist.yaml --data DIR --run runs/cnn --num-proc 2

Without --data it trains on a synthetic sample, made on the spot.
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.experiment import CnnExperiment, parse_experiment
from jobs.session import open_session, run_job
from jobs.stopwatch import Stopwatch


def main() -> None:
    experiment, text = parse_experiment(CnnExperiment, "Train a convolutional network with Horovod on Spark.")
    spark = open_session("train_cnn", ("jobs.training",))

    from jobs.data import drawing, is_synthetic, open_sources, read_images, source_name
    from jobs.run_directory import default_run, staged_run
    from jobs.training import check_network, network_training
    from jobs.unfinished import unfinished_run
    from models.calibration import calibrate
    from models.cluster import check_hosts, check_slots
    from models.cnn import train
    from models.prediction import predict_with_network
    from preprocessing.schema import TEST, VALIDATION
    from preprocessing.storage import Storage

    storage, watch = Storage(spark), Stopwatch()
    run = experiment.run or default_run("cnn")
    check_network(experiment)
    check_slots(spark, 1 if experiment.resume else experiment.num_proc)  # Horovod would wait ten minutes for them
    with (
        unfinished_run(storage, experiment, run, text) as unfinished,
        staged_run(storage, run, experiment.overwrite) as staged,
        open_sources(storage, experiment, unfinished.folder) as sources,
    ):
        check_hosts(spark, readable=list(sources.folders.values()), writable=[unfinished.folder, staged.uri])
        with watch.stage("preprocessing"):
            prepared = read_images(spark, storage, sources, experiment)
            unfinished.check_rows(prepared)
        with drawing(prepared, staged.local / "figures", source_name(experiment)), watch.stage("training"):
            training = network_training(spark, storage, experiment, prepared, unfinished.folder)
            trained = train(training, experiment.num_proc, experiment.max_restarts)

        from jobs.outcome import TrainedModel, say_outcome, write_outcome

        more: dict[str, Any] = {"watches": trained.findings}
        if experiment.training.calibration:
            validation = predict_with_network(prepared.split(VALIDATION), trained.model, prepared.classes)
            more["calibration"] = asdict(calibrate(trained.model, validation, prepared.classes))
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
            loss_curve=trained.loss_curve,
            more=more,
        )
        predictions = predict_with_network(prepared.split(TEST), trained.model, prepared.classes)
        finished = write_outcome(
            storage,
            staged,
            run,
            source_name(experiment),
            is_synthetic(experiment),
            text,
            prepared,
            model,
            predictions,
            watch,
        )
    say_outcome(finished)


if __name__ == "__main__":
    run_job(main)
