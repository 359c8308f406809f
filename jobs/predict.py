"""Predict pictures with a trained run: CSV files, photographs or Parquet, with or without labels.

spark-submit jobs/predict.py runs/cnn PICTURES --output runs/predictions
"""

import sys
from pathlib import Path

# not __file__, which Databricks does not define
sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from experiments.arguments import PredictArguments
from experiments.command_line import parse_arguments, run_job
from experiments.logs import LOGGER
from experiments.session import open_session
from experiments.stopwatch import Stopwatch


def main() -> None:
    arguments = parse_arguments(PredictArguments, "Predict pictures with a trained run.")
    spark = open_session("predict", ("models.prediction", "experiments.trained_run"), ("models.prediction",))

    from evaluation.figures import picture_grid, save_figures
    from evaluation.runs import METRICS_FILE, write_json
    from experiments.answering import answer_rows
    from experiments.results import print_predictions
    from experiments.run_directory import staged_run
    from experiments.trained_run import open_trained_run
    from preprocessing.inputs import read_input
    from preprocessing.read_rows import ReadContext
    from preprocessing.storage import Storage
    from training.cluster.hosts import check_hosts

    storage, stopwatch = Storage(spark), Stopwatch()
    trained = open_trained_run(storage, arguments.run)
    path = storage.absolute(arguments.input)
    inputs = [path, storage.absolute(arguments.run)]
    with staged_run(storage, arguments.output, arguments.overwrite, "predict", inputs=inputs) as staged:
        check_hosts(spark, readable=[path], writable=[staged.uri])
        LOGGER.info(f"reading {arguments.input}")
        context = ReadContext(spark, storage, staged.work, trained.preprocessing, trained.class_names)
        read = read_input(context, path)
        for note in read.notes:
            LOGGER.info(note)
        with stopwatch.stage("prediction"):
            answers = answer_rows(context, trained, read, arguments.input, f"{staged.uri}/predictions")
        metrics = answers.metrics
        write_json(staged.local / METRICS_FILE, {"run": arguments.run, "input": arguments.input} | metrics)
        if arguments.num_examples:
            examples = answers.examples(arguments.num_examples)
            grid = picture_grid(examples, f"Predictions of {trained.run.name}", columns=8)
            save_figures([("predictions", grid)], staged.local, arguments.input)
        for table in read.kept:
            table.unpersist()
    print_predictions(metrics, stopwatch.seconds["prediction"], arguments.output)


if __name__ == "__main__":
    run_job(main)
