"""Predict pictures as they land in a folder, with Spark Structured Streaming, each once.

spark-submit jobs/stream.py runs/cnn INBOX OUTBOX
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.command_line import StreamArguments, parse_stream
from jobs.session import open_session, run_job

# Between two looks at the inbox.
SECONDS = 0.5


def main() -> None:
    arguments: StreamArguments = parse_stream()
    spark = open_session("stream", ("models.prediction", "jobs.trained_run"))

    from pyspark.errors import StreamingQueryException

    from jobs.trained_run import open_trained_run
    from models.cluster import check_hosts
    from preprocessing.errors import InputError
    from preprocessing.publishing import held
    from preprocessing.storage import Storage
    from serving.inbox import Inbox
    from serving.stream import PictureStream

    storage = Storage(spark)
    trained = open_trained_run(storage, arguments.run)
    inbox, outbox = (storage.absolute(path) for path in (arguments.inbox, arguments.outbox))
    if not storage.is_folder(inbox):
        raise InputError(
            f"{arguments.inbox}: {'a file' if storage.exists(inbox) else 'no such folder'}; pictures land in a folder"
        )
    if f"{outbox}/".startswith(f"{inbox}/"):
        raise InputError(f"{arguments.outbox}: lies within the inbox, {arguments.inbox}; answers go elsewhere")
    with held(storage, outbox, arguments.outbox):
        stream = PictureStream(spark, storage, inbox, outbox, trained.predict, trained.classes, trained.preprocessing)
        landed = Inbox(storage, inbox, stream.notes)
        check_hosts(spark, readable=[inbox], writable=[outbox])
        query = stream.start(SECONDS)
        print(f"looking at {arguments.inbox}; Ctrl-C ends it, and the same command goes on", flush=True)
        try:
            while query.isActive:
                noted, waiting = landed.look()
                if arguments.once and not noted and not waiting:
                    query.processAllAvailable()
                    break
                time.sleep(SECONDS)
        except StreamingQueryException:  # hundreds of lines: why it failed is said below
            pass
        finally:
            query.stop()
        for error in (*stream.failures, query.exception()):
            if error is not None:
                raise error


if __name__ == "__main__":
    run_job(main)
