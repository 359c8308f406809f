"""Train on more and more of the training pictures: what more of them would bring.

    spark-submit jobs/learning_curve.py --config conf/sign_mnist.yaml --data DIR --run runs/learning_curve

Without --data it trains on a synthetic sample, made on the spot.
"""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.command_line import parse_experiment
from jobs.experiment import LearningCurveExperiment
from jobs.session import open_session, run_job


def main() -> None:
    experiment, text = parse_experiment(LearningCurveExperiment, "Accuracy by the number of training pictures.")
    spark = open_session("learning_curve", ("jobs.study",))

    from jobs.study import open_study, part_of, say_study, train_and_judge
    from jobs.training import network_training
    from preprocessing.schema import TRAIN
    from preprocessing.splitting import keep_fraction
    from preprocessing.storage import Storage

    storage = Storage(spark)
    with open_study(spark, storage, experiment, text, "learning_curve") as opened:
        trainings = []
        for fraction in sorted(experiment.fractions):
            # as many steps for every size: fewer pictures, seen more often
            settings = replace(experiment, training=experiment.training.times(1 / fraction))
            images = keep_fraction(opened.prepared.images, fraction, experiment.seed)
            with part_of(opened, storage, images) as (part, folder):
                rows = part.rows(TRAIN)
                print(f"training on {rows:,} pictures, {settings.training.all_epochs} epochs", flush=True)
                training = network_training(spark, storage, settings, part, folder)
                trainings.append(train_and_judge(training, f"{fraction:g}", folder, settings, part, rows=rows))
        table = opened.study.write_learning_curve(opened.staged.local, trainings)
    say_study(opened.run, table)


if __name__ == "__main__":
    run_job(main)
