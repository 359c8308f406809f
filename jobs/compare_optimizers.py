"""Train one network with several optimizers from the same first weights: their loss curves in one chart.

    spark-submit jobs/compare_optimizers.py --config conf/sign_mnist_optimizers.yaml --data DIR --run runs/optimizers

Without --data it trains on a synthetic sample, made on the spot.
"""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.experiment import OptimizersExperiment, parse_experiment
from jobs.session import open_session, run_job


def main() -> None:
    experiment, text = parse_experiment(OptimizersExperiment, "Compare optimizers on one network.")
    spark = open_session("compare_optimizers")

    import pandas as pd

    from evaluation.figures import loss_curves, save_figures
    from evaluation.report import write_study_report
    from evaluation.runs import METRICS_FILE, write_json
    from evaluation.smoothness import smoothness
    from jobs.data import is_synthetic, read_images, source_folders, source_name
    from jobs.run_directory import default_run, staged_run
    from jobs.study import study_folder, train_and_judge
    from jobs.training import check_network, network_training
    from models.cluster import check_hosts, check_slots
    from preprocessing.storage import Storage

    storage = Storage(spark)
    run = experiment.run or default_run("optimizers")
    check_network(experiment)
    check_slots(spark, experiment.num_proc)
    with (
        staged_run(storage, run, experiment.overwrite) as staged,
        study_folder(storage, experiment) as folder,
        source_folders(storage, experiment, folder) as folders,
    ):
        check_hosts(spark, readable=list(folders.values()), writable=[folder, staged.uri])
        prepared = read_images(spark, storage, folders, experiment)
        training = network_training(spark, storage, experiment, prepared, folder)
        curves, rows = {}, []
        for optimizer in experiment.optimizers:
            name: str = optimizer.name
            print(f"training with {name}, learning rate {optimizer.learning_rate:g}", flush=True)
            settings = replace(experiment.training, optimizer=optimizer.settings, learning_rate=optimizer.learning_rate)
            judged = train_and_judge(replace(training, settings=settings), name, folder, experiment, prepared)
            curves[name] = judged.trained.loss_curve
            curves[name].to_csv(staged.local / f"loss_curve_{name}.csv", index=False)
            judged.trained.history.to_csv(staged.local / f"history_{name}.csv", index=False)
            last = judged.trained.history.iloc[-1]
            rows.append(
                {"optimizer": name, "learning_rate": optimizer.learning_rate, "train_loss": float(last["loss"])}
                | {"test_loss": judged.test["loss"], "test_accuracy": judged.test["accuracy"]}
                | {"test_accuracy_interval": judged.test["accuracy_interval"]}
                | smoothness(curves[name]["loss"].to_numpy())
            )
        save_figures({"loss_curves": loss_curves(curves)}, staged.local / "figures", source_name(experiment))
        write_json(staged.local / METRICS_FILE, {"source": source_name(experiment), "optimizers": rows})
        (staged.local / "experiment.yaml").write_text(text)
        smoothest = min(rows, key=lambda row: row["roughness"])
        best = min(rows, key=lambda row: row["test_loss"])
        notes = [
            f"The smoothest curve is {smoothest['optimizer']}'s. The lowest test loss is {best['optimizer']}'s,"
            f" {best['test_loss']:.4f}; the order says something of these learning rates, on this network.",
            "A spike is a point a quarter or more above the smoothed curve; the largest rise is the smoothed curve's"
            " above the lowest it had been before; roughness is the mean distance to it, as a share.",
        ]
        table = pd.DataFrame(
            {
                "optimizer": row["optimizer"],
                "learning rate": f"{row['learning_rate']:g}",
                "final training loss": f"{row['train_loss']:.4f}",
                "test loss": f"{row['test_loss']:.4f}",
                "test accuracy": f"{row['test_accuracy']:.4f}",
                "spikes": row["spikes"],
                "largest rise": f"{row['largest_rise']:.4f}",
                "roughness": f"{row['roughness']:.3f}",
            }
            for row in rows
        )
        write_study_report(
            staged.local / "report.html",
            "Optimizers compared",
            f"One network, {experiment.network.name}, trained from the same first weights with each, on"
            f" {source_name(experiment)}.",
            is_synthetic(experiment),
            table,
            notes,
            staged.local / "figures",
        )
    print(table.to_string(index=False))
    print(f"report {run}/report.html", flush=True)


if __name__ == "__main__":
    run_job(main)
