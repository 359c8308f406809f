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
from experiments.session import open_session
from experiments.stopwatch import Stopwatch


def main() -> None:
    experiment = parse_experiment(ForestExperiment, "Train a random forest with Spark MLlib.")
    spark = open_session("train_random_forest", ("experiments.forest_run",))

    from experiments.forest_run import run_forest
    from experiments.results import print_outcome

    print_outcome(run_forest(spark, experiment, Stopwatch()))


if __name__ == "__main__":
    run_job(main)
