"""Compare two or more runs on the same test set: write one report, with a significance test of each pair of runs.

spark-submit jobs/compare.py runs/cnn runs/forest --output runs/compare
"""

import sys
from pathlib import Path

# not __file__, which Databricks does not define
sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from experiments.arguments import CompareArguments
from experiments.command_line import parse_arguments, run_job
from experiments.logs import LOGGER
from experiments.session import open_session


def main() -> None:
    arguments = parse_arguments(CompareArguments, "Compare runs on the same test set.")
    spark = open_session("compare")

    from itertools import combinations

    from evaluation.comparison import Disagreement, compare, recall_table
    from evaluation.figures import accuracy_intervals, class_differences, save_figures
    from evaluation.report import p_value, write_comparison_report
    from evaluation.runs import METRICS_FILE, check_comparable, write_json
    from experiments.run_directory import open_runs, staged_run
    from models.prediction import count_disagreements
    from preprocessing.storage import Storage

    storage = Storage(spark)
    runs = open_runs(storage, arguments.runs)
    check_comparable(runs)
    with staged_run(
        storage, arguments.output, arguments.overwrite, "compare", inputs=[storage.absolute(run.path) for run in runs]
    ) as staged:
        disagreements = [
            Disagreement(
                a.name,
                b.name,
                *count_disagreements(spark, *(storage.absolute(f"{run.files}/predictions") for run in (a, b))),
            )
            for a, b in combinations(runs, 2)
        ]
        comparison = compare(runs, disagreements)
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
    for pair in comparison["pairs"]:
        counts = f"{pair['only_first']:,} against {pair['only_second']:,}"
        LOGGER.info(f"{pair['verdict']}: {counts}, p {p_value(pair['p_value'])}")
    LOGGER.info(f"report {arguments.output}/report.html")


if __name__ == "__main__":
    run_job(main)
