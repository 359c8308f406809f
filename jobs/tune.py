"""Search for hyperparameters with Optuna, with parallel trainings on the cluster's task slots.

    spark-submit jobs/tune.py --config conf/search_sign_mnist.yaml --data DIR --study runs/study --trials 12 --retrain

An interrupted study continues where it was stopped. Only --retrain, at the end, uses the test pictures.
"""

import sys
from pathlib import Path

# not __file__, which Databricks does not define
sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from experiments.command_line import parse_experiment, run_job, with_overrides
from experiments.configuration import SearchExperiment
from experiments.session import open_session
from experiments.stopwatch import Stopwatch


def main() -> None:
    experiment = parse_experiment(SearchExperiment, "Search for hyperparameters with Optuna on Spark.")
    for name, parameter in experiment.search.space.items():
        for end in parameter.ends:
            with_overrides(experiment, {name: end})
    spark = open_session("tune", ("experiments.hyperparameter_search",), ("training.tuning.trials",))

    from experiments.hyperparameter_search import best_experiment, search

    study = search(spark, experiment)
    if not experiment.retrain:
        return
    from experiments.network_run import run_network
    from experiments.results import print_outcome

    best = best_experiment(study, experiment)
    print_outcome(run_network(spark, best, Stopwatch()))


if __name__ == "__main__":
    run_job(main)
