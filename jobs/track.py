"""Send a finished run directory to MLflow, for example if the server could not be reached during the training.

spark-submit jobs/track.py runs/cnn --tracking http://localhost:5000
"""

import os
import sys
from pathlib import Path

# not __file__, which Databricks does not define
sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from experiments.arguments import TrackArguments
from experiments.command_line import parse_arguments, run_job
from experiments.logs import LOGGER
from experiments.session import open_session


def main() -> None:
    arguments = parse_arguments(TrackArguments, "Send a finished run directory to MLflow.")
    spark = open_session("track", ("tracking.mlflow_tracker",))

    from evaluation.runs import RunError
    from experiments.run_directory import open_runs
    from models.errors import without_password
    from preprocessing.storage import Storage
    from tracking.mlflow_tracker import Tracker

    storage = Storage(spark)
    (run,) = open_runs(storage, [arguments.run])
    uri = arguments.tracking or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise RunError("--tracking: no MLflow server is given: give its URI, or set MLFLOW_TRACKING_URI")
    tracker = Tracker(uri, run.name, storage.read_text(f"{storage.absolute(run.files)}/experiment.yaml"))
    tracker.finish(storage, storage.absolute(run.files), arguments.register)
    if tracker.lost:
        raise RunError(f"{run.path} was not sent")
    LOGGER.info(f"{run.path} is run {tracker.run_id} of {without_password(uri)}")


if __name__ == "__main__":
    run_job(main)
