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

    from pyspark.sql import functions as F

    from evaluation.figures import Picture, picture_grid, save_figures
    from evaluation.metrics import summarize
    from evaluation.runs import METRICS_FILE, write_json
    from experiments.results import print_predictions
    from experiments.run_directory import staged_run
    from experiments.trained_run import open_trained_run
    from models.prediction import answer, count_answers
    from preprocessing.cleansing import check_counts
    from preprocessing.inputs import read_input
    from preprocessing.prepare import to_array
    from preprocessing.read_rows import ReadContext
    from preprocessing.storage import Storage, reader
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
        rows = read.table
        for note in read.notes:
            LOGGER.info(note)
        with stopwatch.stage("prediction"):
            answer(rows, trained.predict, trained.class_names).write.parquet(f"{staged.uri}/predictions")
        answers = reader(spark).parquet(f"{staged.uri}/predictions")
        metrics, confusion, labels = count_answers(answers, trained.class_names)
        found = F.count_if(F.col("hand_confidence") > 0).alias("found")
        [hands] = rows.agg(F.count("hand_confidence").alias("searched"), found).collect()
        metrics["hands"] = hands.asDict()
        check_counts("answered", {arguments.input: read.count}, {arguments.input: metrics["rows"]})
        if metrics["labeled"]:
            metrics |= summarize(confusion, labels) | {"labels": labels, "confusion": confusion.tolist()}
        write_json(staged.local / METRICS_FILE, {"run": arguments.run, "input": arguments.input} | metrics)
        if arguments.num_examples:
            examples = answers.where("letter is not null").orderBy("id").limit(arguments.num_examples)
            pictures = [
                Picture(
                    to_array(row["pixels"], trained.preprocessing.shape),
                    row["label"] or row["letter"],
                    row["letter"],
                    row["probability"],
                )
                for row in examples.join(rows.select("id", "pixels"), "id").orderBy("id").collect()
            ]
            title = f"Predictions of {trained.run.name}"
            save_figures([("predictions", picture_grid(pictures, title, columns=8))], staged.local, arguments.input)
        for table in read.kept:
            table.unpersist()
    print_predictions(metrics, stopwatch.seconds["prediction"], arguments.output)


if __name__ == "__main__":
    run_job(main)
