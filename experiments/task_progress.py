"""Prints how many tasks of Spark's stages have finished, while a user waits for them."""

import functools
import threading
import time

from py4j.protocol import Py4JError
from pyspark import SparkContext, SparkStageInfo

from experiments.logs import LOGGER

INTERVAL_SECONDS = 10


@functools.cache
def print_task_progress(context: SparkContext) -> None:
    """Start a thread that prints the progress of the active stages, every ten seconds until the session ends.

    Short stages print nothing, nor do the processes of a training, which all end together.
    """
    # a daemon thread, because a job does not wait for it
    threading.Thread(target=_print_tasks, args=(context,), daemon=True).start()


def _print_tasks(context: SparkContext) -> None:
    tracker, printed_tenths = context.statusTracker(), dict[int, int]()
    while context._jsc is not None:  # type: ignore[attr-defined]
        time.sleep(INTERVAL_SECONDS)
        try:
            stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
            for line in progress_lines([stage for stage in stages if stage is not None], printed_tenths):
                LOGGER.info(line)
        except (Py4JError, OSError, ValueError):  # the session has ended, or the output cannot be written
            return


def progress_lines(stages: list[SparkStageInfo], printed_tenths: dict[int, int]) -> list[str]:
    """One line for each stage of which another tenth has finished since the last line.

    Args:
        stages: the active stages.
        printed_tenths: the tenths that were printed, by the number of the stage; updated here. A stage that is not in
            it has just begun, and stages that have ended are removed.
    """
    lines = []
    for stage in stages:
        tenths = 10 * stage.numCompletedTasks // stage.numTasks
        if tenths > printed_tenths.setdefault(stage.stageId, tenths):
            lines.append(f"stage {stage.stageId}: {stage.numCompletedTasks:,} of {stage.numTasks:,} tasks")
            printed_tenths[stage.stageId] = tenths
    for ended in printed_tenths.keys() - {stage.stageId for stage in stages}:
        del printed_tenths[ended]
    return lines
