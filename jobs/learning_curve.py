"""Train on more and more of the training pictures: what more of them would bring.

    spark-submit jobs/learning_curve.py --config conf/sign_mnist.yaml --data DIR --run runs/learning_curve

Without --data it trains on a synthetic sample, made on the spot.
"""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.experiment import LearningCurveExperiment, parse_experiment
from jobs.session import open_session, run_job


def main() -> None:
    experiment, text = parse_experiment(LearningCurveExperiment, "Accuracy by the number of training pictures.")
    spark = open_session("learning_curve")

    import pandas as pd

    from evaluation.figures import learning_curve_figure, save_figures
    from evaluation.report import write_study_report
    from evaluation.runs import METRICS_FILE, write_json
    from jobs.data import is_synthetic, read_images, source_folders, source_name
    from jobs.run_directory import default_run, staged_run
    from jobs.study import study_folder, train_and_judge
    from jobs.training import check_network, network_training
    from models.cluster import check_hosts, check_slots
    from preprocessing.schema import TRAIN
    from preprocessing.splitting import keep_fraction
    from preprocessing.storage import Storage

    storage = Storage(spark)
    run = experiment.run or default_run("learning_curve")
    check_network(experiment)
    check_slots(spark, experiment.num_proc)
    with (
        staged_run(storage, run, experiment.overwrite) as staged,
        study_folder(storage, experiment) as folder,
        source_folders(storage, experiment, folder) as folders,
    ):
        check_hosts(spark, readable=list(folders.values()), writable=[folder, staged.uri])
        prepared = read_images(spark, storage, folders, experiment)
        points = []
        for fraction in sorted(experiment.fractions):
            part = prepared.of(keep_fraction(prepared.images, fraction, experiment.seed))
            # as many steps for every size: fewer pictures, seen more often
            epochs = max(1, round(experiment.training.epochs / fraction))
            print(f"training on {part.rows(TRAIN):,} pictures, {epochs} epochs", flush=True)
            name = f"{fraction:g}"
            settings = replace(experiment, training=replace(experiment.training, epochs=epochs))
            training = network_training(spark, storage, settings, part, f"{folder}/{name}")
            judged = train_and_judge(training, name, f"{folder}/{name}", settings, part)
            low, high = judged.test["accuracy_interval"]
            points.append(
                {"fraction": fraction, "rows": part.rows(TRAIN), "train": float(judged.kept["accuracy"])}
                | {
                    "validation": float(judged.kept["val_accuracy"]),
                    "test": judged.test["accuracy"],
                    "low": low,
                    "high": high,
                }
            )
        curve = pd.DataFrame(points)
        save_figures(
            {"learning_curve": learning_curve_figure(curve)}, staged.local / "figures", source_name(experiment)
        )
        curve.to_csv(staged.local / "learning_curve.csv", index=False)
        write_json(staged.local / METRICS_FILE, {"source": source_name(experiment), "points": points})
        (staged.local / "experiment.yaml").write_text(text)
        table = pd.DataFrame(
            {
                "training pictures": f"{point['rows']:,}",
                "training accuracy": f"{point['train']:.4f}",
                "validation": f"{point['validation']:.4f}",
                "test": f"{point['test']:.4f}",
                "95 % interval": f"{point['low']:.4f} to {point['high']:.4f}",
            }
            for point in points
        )
        gained = points[-1]["test"] - points[-2]["test"]
        write_study_report(
            staged.local / "report.html",
            "Learning curve",
            f"{experiment.network.name} trained on more and more of {source_name(experiment)}, in as many steps each"
            " time.",
            is_synthetic(experiment),
            table,
            [
                f"From {points[-2]['rows']:,} to {points[-1]['rows']:,} training pictures the test accuracy changed by"
                f" {gained:+.4f}. Where it still rises, more pictures help; where training and test stay apart while it"
                " does not, another network or other pictures do."
            ],
            staged.local / "figures",
        )
    print(table.to_string(index=False))
    print(f"report {run}/report.html", flush=True)


if __name__ == "__main__":
    run_job(main)
