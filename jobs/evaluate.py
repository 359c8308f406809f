"""Evaluate a finished run on folders of labeled pictures. Nothing is trained.

spark-submit jobs/evaluate.py runs/hands MY_PICTURES OTHERS --output runs/evaluation
"""

import sys
from pathlib import Path

# not __file__, which Databricks does not define
sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from experiments.arguments import EvaluateArguments
from experiments.command_line import parse_arguments, run_job
from experiments.logs import LOGGER
from experiments.session import open_session


def main() -> None:
    arguments = parse_arguments(EvaluateArguments, "Evaluate a finished run on folders of labeled pictures.")
    spark = open_session("evaluate", ("models.prediction", "experiments.trained_run"), ("models.prediction",))

    from evaluation.evaluations import Evaluated, write_evaluations
    from experiments.answering import answer_rows
    from experiments.run_directory import staged_run
    from experiments.trained_run import open_trained_run
    from preprocessing.errors import InputError
    from preprocessing.inputs import read_input
    from preprocessing.read_rows import ReadContext
    from preprocessing.storage import Storage
    from training.cluster.hosts import check_hosts

    storage = Storage(spark)
    trained = open_trained_run(storage, arguments.run)
    paths = {name: storage.absolute(path) for name, path in arguments.named_inputs.items()}
    inputs = [*paths.values(), storage.absolute(arguments.run)]
    with staged_run(storage, arguments.output, arguments.overwrite, "evaluation", inputs=inputs) as staged:
        check_hosts(spark, readable=list(paths.values()), writable=[staged.uri])
        context = ReadContext(spark, storage, staged.work, trained.preprocessing, trained.class_names)
        evaluated = {}
        for name, path in paths.items():
            LOGGER.info(f"reading {path}")
            read = read_input(context, path)
            answers = answer_rows(context, trained, read, name, f"{staged.uri}/predictions/{name}")
            if not answers.metrics["labeled"]:
                raise InputError(f"{path}: no picture has a label: the folder of a picture is named after its class")
            evaluated[name] = Evaluated(answers.metrics, answers.mistakes(arguments.num_examples))
            for rows in read.kept:
                rows.unpersist()
        table = write_evaluations(staged.local, trained.run.name, evaluated)
    LOGGER.info(f"{table.to_string(index=False)}\nreport {arguments.output}/report.html")


if __name__ == "__main__":
    run_job(main)
