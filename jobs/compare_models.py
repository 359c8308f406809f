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
from experiments.configuration import COMPARISON, ModelsExperiment
from experiments.session import open_session


def main() -> None:
    experiment = parse_experiment(ModelsExperiment, "Train several models on the same data, and compare them.")
    spark = open_session("compare_models", ("experiments.model_runs",), ("training.trainer",))

    from experiments.comparing import write_comparison
    from experiments.model_runs import run_models
    from experiments.run_directory import default_run
    from preprocessing.storage import Storage

    storage, folder = Storage(spark), experiment.run or default_run("models")
    models = run_models(spark, storage, experiment, folder)
    runs = [run for by_seed in models.values() for run in by_seed.values()]
    with_seeds = models if experiment.seeds else None
    overwrite = experiment.overwrite or experiment.resume
    write_comparison(spark, storage, runs, f"{folder}/{COMPARISON}", overwrite, with_seeds)


if __name__ == "__main__":
    run_job(main)
