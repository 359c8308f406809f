"""Send a finished run directory to MLflow, such as one whose server was away when it was trained.

spark-submit jobs/track.py runs/cnn --tracking http://localhost:5000
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.command_line import TrackArguments, parse_track
from jobs.session import open_session, run_job


def main() -> None:
    arguments: TrackArguments = parse_track()
    spark = open_session("track", ("jobs.tracking",))

    from evaluation.runs import RunError
    from jobs.run_directory import open_runs
    from jobs.tracking import Tracker
    from models.errors import without_password
    from preprocessing.storage import Storage

    storage = Storage(spark)
    (run,) = open_runs(storage, [arguments.run])
    uri = arguments.tracking or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise RunError("--tracking: no MLflow server is given, nor in MLFLOW_TRACKING_URI")
    tracker = Tracker(uri, run.name, storage.read_text(f"{storage.absolute(run.files)}/experiment.yaml"))
    tracker.finish(storage, storage.absolute(run.files), arguments.register)
    if tracker.lost:
        raise RunError(f"{run.path} was not sent")
    print(f"{run.path} is run {tracker.run_id} of {without_password(uri)}", flush=True)


if __name__ == "__main__":
    run_job(main)
