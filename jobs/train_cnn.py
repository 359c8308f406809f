"""Train a convolutional network with Horovod on a Spark cluster.

    spark-submit jobs/train_cnn.py --config conf/sign_mnist.yaml --data DIR --run runs/cnn --num-proc 2

Without --data it trains on a synthetic sample, which the job generates.
"""

import sys
from pathlib import Path

# not __file__, which Databricks does not define
sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from experiments.command_line import parse_experiment, run_job
from experiments.configuration import CnnExperiment
from experiments.session import open_session
from experiments.stopwatch import Stopwatch


def main() -> None:
    experiment = parse_experiment(CnnExperiment, "Train a convolutional network with Horovod on Spark.")
    spark = open_session("train_cnn", ("experiments.network_run",), ("training.trainer",))

    from experiments.network_run import run_network

    finished = run_network(spark, experiment, Stopwatch())

    from experiments.results import print_outcome

    print_outcome(finished)


if __name__ == "__main__":
    run_job(main)
