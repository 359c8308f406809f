"""Compare two or more runs on the same test set: write one report, with a significance test of each pair of runs.

spark-submit jobs/compare.py runs/cnn runs/forest --output runs/compare
"""

import sys
from pathlib import Path

# not __file__, which Databricks does not define
sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from experiments.arguments import CompareArguments
from experiments.command_line import parse_arguments, run_job
from experiments.session import open_session


def main() -> None:
    arguments = parse_arguments(CompareArguments, "Compare runs on the same test set.")
    spark = open_session("compare")

    from experiments.comparing import write_comparison
    from experiments.run_directory import open_runs
    from preprocessing.storage import Storage

    storage = Storage(spark)
    runs = {run.name: [run] for run in open_runs(storage, arguments.runs)}
    write_comparison(spark, storage, runs, arguments.output, arguments.overwrite)


if __name__ == "__main__":
    run_job(main)
