"""Train on increasing fractions of the training pictures, to show what more pictures would improve.

    spark-submit jobs/learning_curve.py --config conf/sign_mnist.yaml --data DIR --run runs/learning_curve

Without --data it trains on a synthetic sample, which the job generates.
"""

import sys
from dataclasses import replace
from pathlib import Path

# not __file__, which Databricks does not define
sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from experiments.command_line import parse_experiment, run_job
from experiments.configuration import LearningCurveExperiment
from experiments.logs import LOGGER
from experiments.session import open_session


def main() -> None:
    experiment = parse_experiment(LearningCurveExperiment, "Accuracy by the number of training pictures.")
    spark = open_session("learning_curve", ("experiments.study",), ("training.trainer",))

    from experiments.network_training import network_training
    from experiments.study import open_study, open_subset, print_study, train_and_evaluate
    from preprocessing.schema import TRAIN
    from preprocessing.splitting import keep_fractions
    from preprocessing.storage import Storage

    storage = Storage(spark)
    with open_study(spark, storage, experiment, "learning_curve") as opened:
        trainings = []
        for fraction in sorted(experiment.fractions):
            # all sizes have the same number of steps: the fewer pictures, the more epochs
            settings = replace(experiment, training=experiment.training.times(1 / fraction))
            fractions = dict.fromkeys(opened.prepared.sources, fraction)
            images = keep_fractions(opened.prepared.images, fractions, experiment.split_seed)
            with open_subset(opened, storage, images) as (subset, folder):
                rows = subset.rows(TRAIN)
                LOGGER.info(f"training on {rows:,} pictures, {settings.training.all_epochs} epochs")
                training = network_training(spark, storage, settings, subset, folder)
                trainings.append(train_and_evaluate(training, f"{fraction:g}", folder, settings, subset, rows=rows))
        table = opened.study.write_learning_curve(opened.staged.local, trainings)
    print_study(opened.run, table)


if __name__ == "__main__":
    run_job(main)
