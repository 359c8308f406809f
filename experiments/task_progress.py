"""Prints how many tasks of Spark's stages have finished, while a user waits for them."""

import functools
import threading
import time

from py4j.protocol import Py4JError
from pyspark import SparkContext, SparkStageInfo, StatusTracker

from experiments.logs import LOGGER
from preprocessing.steps import STEPS

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
            active = [stage for stage in stages if stage is not None]
            for line in progress_lines(active, step_names(tracker) if active else {}, printed_tenths):
                LOGGER.info(line)
        except (Py4JError, OSError, ValueError):  # the session has ended, or the output cannot be written
            return


def step_names(tracker: StatusTracker) -> dict[int, str]:
    """The names of steps by the numbers of their active stages, see :func:`preprocessing.steps.step`."""
    active = set(tracker.getActiveJobsIds())
    groups = {name: active.intersection(tracker.getJobIdsForGroup(name)) for name in list(STEPS)}
    jobs = [(name, tracker.getJobInfo(job)) for name, group in groups.items() for job in group]
    return {stage: name for name, job in jobs if job is not None for stage in job.stageIds}


def progress_lines(stages: list[SparkStageInfo], names: dict[int, str], printed_tenths: dict[int, int]) -> list[str]:
    """One line for each stage of which another tenth has finished since the last line.

    Args:
        stages: the active stages.
        names: the names of steps by the numbers of their stages.
        printed_tenths: the tenths that were printed, by the number of the stage; updated here. A stage that is not in
            it has just begun, and stages that have ended are removed.
    """
    lines = []
    for stage in stages:
        tenths = 10 * stage.numCompletedTasks // stage.numTasks
        if tenths > printed_tenths.setdefault(stage.stageId, tenths):
            name = f"{names[stage.stageId]}, " if stage.stageId in names else ""
            lines.append(f"{name}stage {stage.stageId}: {stage.numCompletedTasks:,} of {stage.numTasks:,} tasks")
            printed_tenths[stage.stageId] = tenths
    for ended in printed_tenths.keys() - {stage.stageId for stage in stages}:
        del printed_tenths[ended]
    return lines
