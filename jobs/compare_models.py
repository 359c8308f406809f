"""Train several models on the same features and the same split, networks and a random forest, and compare them.

    spark-submit jobs/compare_models.py --config conf/sign_mnist_models.yaml --data DIR --run runs/models

Each model is a run directory in the folder of --run, next to comparison/, which has the report. Without --data the
models are trained on a synthetic sample, which the job generates.
"""

import sys
from pathlib import Path

# not __file__, which Databricks does not define
sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from experiments.command_line import parse_experiment, run_job
from experiments.configuration import ModelsExperiment
from experiments.session import open_session


def main() -> None:
    experiment = parse_experiment(ModelsExperiment, "Train several models on the same data, and compare them.")
    spark = open_session("compare_models", ("experiments.model_runs",), ("training.trainer",))

    from experiments.model_runs import compare_models

    compare_models(spark, experiment)


if __name__ == "__main__":
    run_job(main)
