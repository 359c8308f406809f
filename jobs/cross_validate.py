"""Leave out one source or one signer in turn, train on the others, and judge on what was left out.

    spark-submit jobs/cross_validate.py --config conf/mixed_handshape.yaml --data DIR --by source --run runs/by_source

No test set is touched: what is left out are training pictures.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.experiment import CrossValidationExperiment, parse_experiment
from jobs.session import open_session, run_job


def main() -> None:
    experiment, text = parse_experiment(CrossValidationExperiment, "Judge on sources or signers that were left out.")
    spark = open_session("cross_validate")

    import pandas as pd

    from evaluation.figures import accuracy_intervals, save_figures
    from evaluation.report import write_study_report
    from evaluation.runs import METRICS_FILE, write_json
    from jobs.data import is_synthetic, read_images, source_folders, source_name
    from jobs.run_directory import default_run, staged_run
    from jobs.study import study_folder, train_and_judge
    from jobs.training import check_network, network_training
    from models.cluster import check_hosts, check_slots
    from preprocessing.folds import leave_out, left_out
    from preprocessing.schema import TEST, TRAIN
    from preprocessing.storage import Storage

    storage = Storage(spark)
    run = experiment.run or default_run("cross_validation")
    check_network(experiment)
    check_slots(spark, experiment.num_proc)
    with (
        staged_run(storage, run, experiment.overwrite) as staged,
        study_folder(storage, experiment) as folder,
        source_folders(storage, experiment, folder) as folders,
    ):
        check_hosts(spark, readable=list(folders.values()), writable=[folder, staged.uri])
        prepared = read_images(spark, storage, folders, experiment)
        names = left_out(prepared.images, experiment.by)
        folds = {}
        for number, name in enumerate(names):
            fold = prepared.of(leave_out(prepared.images, experiment.by, name))
            print(
                f"leaving out {name}: {fold.rows(TRAIN):,} pictures to train on, {fold.rows(TEST):,} to judge on,"
                f" {len(fold.classes)} classes",
                flush=True,
            )
            training = network_training(spark, storage, experiment, fold, f"{folder}/{number}")
            folds[name] = train_and_judge(training, name, f"{folder}/{number}", experiment, fold)
        tests = {name: fold.test for name, fold in folds.items()}
        save_figures({"accuracy": accuracy_intervals(tests)}, staged.local / "figures", source_name(experiment))
        mean = sum(test["accuracy"] for test in tests.values()) / len(tests)
        write_json(
            staged.local / METRICS_FILE,
            {"source": source_name(experiment), "by": experiment.by, "mean_accuracy": mean, "left_out": tests},
        )
        (staged.local / "experiment.yaml").write_text(text)
        table = pd.DataFrame(
            {
                f"{experiment.by} left out": name,
                "accuracy": f"{test['accuracy']:.4f}",
                "95 % interval": "{:.4f} to {:.4f}".format(*test["accuracy_interval"]),
                "macro F1": f"{test['macro']['f1']:.4f}",
                "loss": f"{test['loss']:.4f}",
            }
            for name, test in tests.items()
        )
        write_study_report(
            staged.local / "report.html",
            f"One {experiment.by} left out in turn",
            f"{experiment.network.name} trained on the other {experiment.by}s of {source_name(experiment)}, and judged"
            " on the training pictures of the one it has never seen.",
            is_synthetic(experiment),
            table,
            [
                f"The mean accuracy is {mean:.4f}. Only classes that the others have are judged on; no test set was"
                " touched."
            ],
            staged.local / "figures",
        )
    print(table.to_string(index=False))
    print(f"mean accuracy {mean:.4f}\nreport {run}/report.html", flush=True)


if __name__ == "__main__":
    run_job(main)
