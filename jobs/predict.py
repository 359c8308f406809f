"""Predict pictures with a trained run: CSV files, photographs or Parquet, labelled or not.

spark-submit jobs/predict.py runs/cnn PICTURES --output runs/predictions
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.command_line import PredictArguments, parse_predict
from jobs.session import open_session, run_job
from jobs.stopwatch import Stopwatch


def main() -> None:
    arguments: PredictArguments = parse_predict()
    spark = open_session("predict", ("models.prediction", "jobs.trained_run"))

    from evaluation.figures import Picture, picture_grid, save_figures
    from evaluation.metrics import summarise
    from evaluation.runs import METRICS_FILE, write_json
    from jobs.run_directory import staged_run
    from jobs.trained_run import open_trained_run
    from models.cluster import check_hosts
    from models.prediction import answer, count_answers
    from preprocessing.cleansing import check_counts
    from preprocessing.inputs import read_input
    from preprocessing.prepare import to_array
    from preprocessing.storage import Storage, reader

    storage, watch = Storage(spark), Stopwatch()
    trained = open_trained_run(storage, arguments.run)
    path = storage.absolute(arguments.input)
    inputs = [path, storage.absolute(arguments.run)]
    with staged_run(storage, arguments.output, arguments.overwrite, "predict", inputs=inputs) as staged:
        check_hosts(spark, readable=[path], writable=[staged.uri])
        print(f"reading {arguments.input}", flush=True)
        read = read_input(spark, storage, path, staged.work, trained.preprocessing, trained.classes)
        rows = read.table
        for note in read.notes:
            print(note, flush=True)
        with watch.stage("prediction"):
            answer(rows, trained.predict, trained.classes).write.parquet(f"{staged.uri}/predictions")
        answers = reader(spark).parquet(f"{staged.uri}/predictions")
        found, confusion, labels = count_answers(answers, trained.classes)
        check_counts("answered", {arguments.input: read.count}, {arguments.input: found["rows"]})
        if found["labelled"]:
            found |= summarise(confusion, labels) | {"labels": labels, "confusion": confusion.tolist()}
        write_json(staged.local / METRICS_FILE, {"run": arguments.run, "input": arguments.input} | found)
        if arguments.draw:
            drawn = answers.where("letter is not null").orderBy("id").limit(arguments.draw)
            pictures = [
                Picture(
                    to_array(row["pixels"], trained.preprocessing.shape),
                    row["label"] or row["letter"],
                    row["letter"],
                    row["probability"],
                )
                for row in drawn.join(rows.select("id", "pixels"), "id").orderBy("id").collect()
            ]
            title = f"What {trained.run.name} sees"
            save_figures([("predictions", picture_grid(pictures, title, columns=8))], staged.local, arguments.input)
        for table in read.kept:
            table.unpersist()
    speed = found["rows"] / watch.seconds["prediction"]
    print(f"{found['rows']:,} rows, {found['rejected']:,} of them not usable, {speed:,.0f} rows/s")
    for reason, count in found["reasons"].items():
        print(f"not usable: {reason} {count:,}")
    if "accuracy" in found:
        low, high = found["accuracy_interval"]
        print(f"accuracy {found['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}) on {found['labelled']:,} rows")
    if found["other_labels"]:
        counts = ", ".join(f"{label} {count:,}" for label, count in found["other_labels"].items())
        total = sum(found["other_labels"].values())
        print(f"{total:,} of them cannot be right, as the run knows no such class: {counts}")
    print(f"predictions {arguments.output}/predictions", flush=True)


if __name__ == "__main__":
    run_job(main)
