"""Train one network with several optimizers from the same initial weights, and draw their loss curves in one chart.

    spark-submit jobs/compare_optimizers.py --config conf/sign_mnist_optimizers.yaml --data DIR --run runs/optimizers

Without --data it trains on a synthetic sample, which the job generates.
"""

import sys
from dataclasses import replace
from pathlib import Path

# not __file__, which Databricks does not define
sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from experiments.command_line import parse_experiment, run_job
from experiments.configuration import OptimizersExperiment
from experiments.logs import LOGGER
from experiments.session import open_session


def main() -> None:
    experiment = parse_experiment(OptimizersExperiment, "Compare optimizers on one network.")
    spark = open_session("compare_optimizers", ("experiments.study",), ("training.trainer",))

    from experiments.network_training import network_training
    from experiments.study import open_study, print_study, train_and_evaluate
    from preprocessing.storage import Storage

    storage = Storage(spark)
    with open_study(spark, storage, experiment, "optimizers") as opened:
        training = network_training(spark, storage, experiment, opened.prepared, opened.folder)
        trainings = []
        for optimizer in experiment.optimizers:
            rate = optimizer.learning_rate
            LOGGER.info(f"training with {optimizer.name}, learning rate {rate:g}")
            settings = replace(experiment.training, optimizer=optimizer.settings, learning_rate=rate)
            trainings.append(
                train_and_evaluate(
                    replace(training, settings=settings), optimizer.name, opened.folder, experiment, opened.prepared,
                    learning_rate=float(rate),
                )
            )  # fmt: skip
        table = opened.study.write_optimizers(opened.staged.local, trainings)
    print_study(opened.run, table)


if __name__ == "__main__":
    run_job(main)
