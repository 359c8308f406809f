"""Leave out one source or one signer at a time, train on the others, and evaluate on the one that was left out.

    spark-submit jobs/cross_validate.py --config conf/hands.yaml --data DIR --by source --run runs/by_source

The test set is not used: the pictures that are left out are training pictures.
"""

import sys
from dataclasses import replace
from pathlib import Path

# not __file__, which Databricks does not define
sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from experiments.command_line import parse_experiment, run_job
from experiments.configuration import CrossValidationExperiment
from experiments.logs import LOGGER
from experiments.session import open_session


def main() -> None:
    experiment = parse_experiment(
        CrossValidationExperiment, "Evaluate on sources or signers that were left out of the training."
    )
    spark = open_session("cross_validate", ("experiments.study",), ("training.trainer",))

    from experiments.network_training import network_training, rows_per_epoch
    from experiments.study import open_study, open_subset, print_study, train_and_evaluate
    from preprocessing.folds import leave_out, left_out
    from preprocessing.schema import TEST, TRAIN
    from preprocessing.sources import assigned_splits
    from preprocessing.storage import Storage

    storage = Storage(spark)
    assigned = assigned_splits(experiment.sources)
    with open_study(spark, storage, experiment, "cross_validation") as opened:
        trainings = []
        for name in left_out(opened.prepared.images, experiment.by):
            images = leave_out(
                opened.prepared.images, experiment.by, name, experiment.split, experiment.split_seed, assigned
            )
            with open_subset(opened, storage, images) as (fold, folder):
                # the number of steps is the same as with all sources or signers
                factor = rows_per_epoch(experiment, opened.prepared) / rows_per_epoch(experiment, fold)
                settings = replace(experiment, training=experiment.training.times(factor))
                LOGGER.info(
                    f"leaving out {name}: {fold.rows(TRAIN):,} pictures to train on, {fold.rows(TEST):,} to evaluate"
                    f" on, {len(fold.class_names)} classes, {settings.training.all_epochs} epochs"
                )
                training = network_training(spark, storage, settings, fold, folder)
                trainings.append(
                    train_and_evaluate(
                        training, name, folder, settings, fold, in_detail=True, epochs=settings.training.all_epochs
                    )
                )
        table = opened.study.write_left_out(opened.staged.local, experiment.by, trainings)
    print_study(opened.run, table)


if __name__ == "__main__":
    run_job(main)
