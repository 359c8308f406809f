"""Prints how many tasks of Spark's jobs have finished, while a user waits for them."""

import functools
import threading
import time

from py4j.protocol import Py4JError
from pyspark import SparkContext, StatusTracker

from experiments.logs import LOGGER

INTERVAL_SECONDS = 10.0


@functools.cache
def print_task_progress(context: SparkContext) -> None:
    """Start a thread that prints one line for each tenth of a stage's tasks, and at most one every ten seconds.

    Stages that end within ten seconds print nothing, nor do the processes of a training, which all end together.
    """
    # a daemon thread, because it waits for the end of the session
    threading.Thread(target=_print_tasks, args=(context.statusTracker(),), daemon=True).start()


def _print_tasks(tracker: StatusTracker) -> None:
    earlier, printed = None, 0
    while True:
        time.sleep(INTERVAL_SECONDS)
        try:
            active = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
            stages = [stage for stage in active if stage is not None]
            total = max(1, sum(stage.numTasks for stage in stages))
            finished = sum(stage.numCompletedTasks for stage in stages)
            ids = {stage.stageId for stage in stages}
            if ids != earlier:
                earlier, printed = ids, 0
            elif 10 * finished // total > printed:
                LOGGER.info(f"{finished:,} of {total:,} tasks")
                printed = 10 * finished // total
        except (Py4JError, OSError):  # the session has ended, or the output cannot be written
            return
