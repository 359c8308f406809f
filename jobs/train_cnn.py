"""Train a convolutional network with Horovod on a Spark cluster.

    spark-submit jobs/train_cnn.py --config conf/sign_mnist.yaml --data DIR --run runs/cnn --num-proc 2

Without --data it trains on a synthetic sample, made on the spot.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.command_line import parse_experiment
from jobs.experiment import CnnExperiment
from jobs.session import open_session, run_job
from jobs.stopwatch import Stopwatch


def main() -> None:
    experiment, text = parse_experiment(CnnExperiment, "Train a convolutional network with Horovod on Spark.")
    spark = open_session("train_cnn", ("jobs.network_run",))

    from jobs.network_run import run_network

    finished = run_network(spark, experiment, text, Stopwatch())

    from jobs.outcome import say_outcome

    say_outcome(finished)


if __name__ == "__main__":
    run_job(main)
