"""Predict each picture that lands in a folder exactly once, with Spark Structured Streaming.

spark-submit jobs/stream.py runs/cnn INBOX OUTBOX
"""

import sys
import time
from pathlib import Path

# not __file__, which Databricks does not define
sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from experiments.arguments import StreamArguments
from experiments.command_line import parse_arguments, run_job
from experiments.logs import LOGGER
from experiments.session import open_session

# The interval between two scans of the inbox.
SECONDS = 0.5


def main() -> None:
    arguments = parse_arguments(StreamArguments, "Predict pictures as they land in a folder.")
    spark = open_session("stream", ("models.prediction", "experiments.trained_run"), ("models.prediction",))

    from pyspark.errors import StreamingQueryException

    from experiments.trained_run import open_trained_run
    from preprocessing.errors import InputError
    from preprocessing.publishing import held
    from preprocessing.storage import Storage
    from serving.inbox import Inbox
    from serving.stream import PictureStream
    from training.cluster.hosts import check_hosts

    storage = Storage(spark)
    trained = open_trained_run(storage, arguments.run)
    inbox, outbox = (storage.absolute(path) for path in (arguments.inbox, arguments.outbox))
    if not storage.is_folder(inbox):
        raise InputError(
            f"{arguments.inbox}: {'a file' if storage.exists(inbox) else 'no such folder'}; pictures land in a folder"
        )
    if f"{outbox}/".startswith(f"{inbox}/"):
        raise InputError(f"{arguments.outbox}: lies within the inbox, {arguments.inbox}; give a folder outside of it")
    with held(storage, outbox, arguments.outbox):
        stream = PictureStream(
            spark, storage, inbox, outbox, trained.predict, trained.class_names, trained.preprocessing
        )
        scanner = Inbox(storage, inbox, stream.notes)
        check_hosts(spark, readable=[inbox], writable=[outbox])
        query = stream.start(SECONDS)
        LOGGER.info(f"looking at {arguments.inbox}; Ctrl-C ends it, and the same command goes on")
        try:
            while query.isActive:
                num_noted, num_incomplete = scanner.look()
                if arguments.once and not num_noted and not num_incomplete:
                    query.processAllAvailable()
                    break
                time.sleep(SECONDS)
        except StreamingQueryException:  # its message has hundreds of lines; the cause is raised below
            pass
        finally:
            query.stop()
        for error in (*stream.failures, query.exception()):
            if error is not None:
                raise error


if __name__ == "__main__":
    run_job(main)
