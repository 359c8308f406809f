"""Search for hyperparameters with Optuna, several trainings at once on the cluster's task slots.

    spark-submit jobs/tune.py --config conf/search_sign_mnist.yaml --data DIR --study runs/study --trials 12 --retrain

The study goes on where it was stopped. No test picture is used, but by --retrain in the end.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.command_line import parse_experiment, with_values
from jobs.experiment import SearchExperiment
from jobs.session import open_session, run_job
from jobs.stopwatch import Stopwatch


def main() -> None:
    experiment, text = parse_experiment(SearchExperiment, "Search for hyperparameters with Optuna on Spark.")
    for name, parameter in experiment.search.space.items():
        for end in parameter.ends:
            with_values(text, {name: end})
    spark = open_session("tune", ("jobs.search",))

    from jobs.search import best_experiment, search

    study = search(spark, experiment, text)
    if not experiment.retrain:
        return
    from jobs.network_run import run_network
    from jobs.outcome import say_outcome

    best, resolved = best_experiment(study, experiment, text)
    say_outcome(run_network(spark, best, resolved, Stopwatch()))


if __name__ == "__main__":
    run_job(main)
