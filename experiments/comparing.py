"""The comparison of finished runs: one report, with a significance test of each pair."""

from pyspark.sql import SparkSession

from evaluation.comparison import Disagreement, compare, pairs_to_test, recall_table
from evaluation.figures import accuracy_intervals, class_differences, save_figures
from evaluation.report import p_value, write_comparison_report
from evaluation.runs import METRICS_FILE, Run, check_comparable, write_json
from experiments.logs import LOGGER
from experiments.run_directory import staged_run
from models.prediction import count_disagreements
from preprocessing.storage import Storage


def write_comparison(
    spark: SparkSession, storage: Storage, models: dict[str, list[Run]], output: str, overwrite: bool
) -> None:
    """Compare runs, write the report, and print the accuracies and the significant differences.

    Args:
        spark: the Spark session.
        storage: the session's file systems.
        models: the runs of each model, all on the same test set; one for each seed, in the same order.
        output: path of the folder to write.
        overwrite: whether to replace an existing folder.

    Raises:
        RunError: the runs have different test sets.
        InputError: the folder exists already, or cannot be written.
    """
    runs = [run for runs in models.values() for run in runs]
    check_comparable(runs)
    with staged_run(
        storage, output, overwrite, "compare", inputs=[storage.absolute(run.path) for run in runs]
    ) as staged:
        disagreements = [
            Disagreement(
                first.name,
                second.name,
                *count_disagreements(spark, *(storage.absolute(f"{run.files}/predictions") for run in (first, second))),
            )
            for first, second in pairs_to_test(models)
        ]
        comparison = compare(models, disagreements)
        charts = {
            "accuracy": accuracy_intervals(
                {run.name: run.metrics["test"] for run in runs}, "Test accuracy with 95 % interval"
            ),
            "classes": class_differences(recall_table(runs).head(10)),
        }
        save_figures(charts.items(), staged.local / "figures", comparison["source"])
        write_json(staged.local / METRICS_FILE, comparison)
        write_comparison_report(staged.local / "report.html", runs, comparison, staged.local / "figures")
    for run in runs:
        low, high = run.metrics["test"]["accuracy_interval"]
        LOGGER.info(f"{run.name}: test accuracy {run.metrics['test']['accuracy']:.4f} ({low:.4f} to {high:.4f})")
    for name, model in comparison["seeds"].items():
        accuracies = f"{model['mean_accuracy']:.4f} ({model['min_accuracy']:.4f} to {model['max_accuracy']:.4f})"
        LOGGER.info(f"{name}: mean test accuracy of {model['trainings']} seeds {accuracies}")
    for pair in comparison["pairs"]:
        counts = f"{pair['only_first']:,} against {pair['only_second']:,}"
        LOGGER.info(f"{pair['verdict']}: {counts}, p {p_value(pair['p_value'])}")
    LOGGER.info(f"report {output}/report.html")
