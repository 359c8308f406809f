"""Leave out one source or one signer in turn, train on the others, and judge on what was left out.

    spark-submit jobs/cross_validate.py --config conf/mixed_handshape.yaml --data DIR --by source --run runs/by_source

No test set is touched: what is left out are training pictures.
"""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.command_line import parse_experiment
from jobs.experiment import CrossValidationExperiment
from jobs.session import open_session, run_job


def main() -> None:
    experiment, text = parse_experiment(CrossValidationExperiment, "Judge on sources or signers that were left out.")
    spark = open_session("cross_validate", ("jobs.study",))

    from jobs.study import open_study, part_of, say_study, train_and_judge
    from jobs.training import network_training, rows_an_epoch
    from preprocessing.folds import leave_out, left_out
    from preprocessing.schema import TEST, TRAIN
    from preprocessing.storage import Storage

    storage = Storage(spark)
    with open_study(spark, storage, experiment, text, "cross_validation") as opened:
        trainings = []
        for name in left_out(opened.prepared.images, experiment.by):
            images = leave_out(opened.prepared.images, experiment.by, name, experiment.split, experiment.seed)
            with part_of(opened, storage, images) as (fold, folder):
                # as many steps as with all of them
                factor = rows_an_epoch(experiment, opened.prepared) / rows_an_epoch(experiment, fold)
                settings = replace(experiment, training=experiment.training.times(factor))
                print(
                    f"leaving out {name}: {fold.rows(TRAIN):,} pictures to train on, {fold.rows(TEST):,} to judge on,"
                    f" {len(fold.classes)} classes, {settings.training.all_epochs} epochs",
                    flush=True,
                )
                training = network_training(spark, storage, settings, fold, folder)
                trainings.append(
                    train_and_judge(training, name, folder, settings, fold, epochs=settings.training.all_epochs)
                )
        table = opened.study.write_left_out(opened.staged.local, experiment.by, trainings)
    say_study(opened.run, table)


if __name__ == "__main__":
    run_job(main)
