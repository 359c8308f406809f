"""The lines that show how far a stage of Spark is."""

import threading
import time

import pytest
from pyspark import SparkStageInfo
from pyspark.sql import SparkSession

from experiments.task_progress import progress_lines, step_names
from preprocessing.steps import step


def stage(number: int, finished: int, tasks: int) -> SparkStageInfo:
    return SparkStageInfo(number, 0, "count", tasks, 2, finished, 0)


def test_each_tenth_of_a_stages_tasks_is_printed_once() -> None:
    printed: dict[int, int] = {}
    lines = [progress_lines([stage(7, finished, 30)], {}, printed) for finished in (0, 2, 3, 3, 5, 1, 17, 30)]
    assert lines == [
        [], [], ["stage 7: 3 of 30 tasks"], [], [], [], ["stage 7: 17 of 30 tasks"], ["stage 7: 30 of 30 tasks"],
    ]  # fmt: skip


def test_a_stage_prints_nothing_when_it_is_first_seen_whatever_other_stages_do() -> None:
    printed: dict[int, int] = {}
    assert progress_lines([stage(7, 1, 4)], {}, printed) == []
    assert progress_lines([stage(7, 1, 4), stage(8, 3, 4)], {}, printed) == []
    assert progress_lines([stage(7, 2, 4), stage(9, 0, 2)], {}, printed) == ["stage 7: 2 of 4 tasks"]
    assert printed.keys() == {7, 9}


def test_the_line_has_the_name_of_the_step() -> None:
    printed = {7: 0}
    assert progress_lines([stage(7, 3, 4)], {7: "growing trees"}, printed) == ["growing trees, stage 7: 3 of 4 tasks"]


def test_the_active_stages_of_a_step_have_its_name(spark: SparkSession) -> None:
    tracker = spark.sparkContext.statusTracker()

    def count() -> None:
        with step(spark, "counting in a test"):
            spark.sparkContext.parallelize([0], 1).foreach(lambda _: time.sleep(3))

    thread = threading.Thread(target=count)
    thread.start()
    names: dict[int, str] = {}
    while thread.is_alive() and not names:
        names = step_names(tracker)
    assert set(names.values()) == {"counting in a test"}
    thread.join()


@pytest.mark.parametrize("group", [None, "the caller's"])
def test_a_step_keeps_the_job_group_of_its_caller(group: str | None, spark: SparkSession) -> None:
    context = spark.sparkContext
    context.setLocalProperty("spark.jobGroup.id", group)  # type: ignore[arg-type]
    with step(spark, "counting in a test"):
        assert context.getLocalProperty("spark.jobGroup.id") == (group or "counting in a test")
        assert context.getLocalProperty("spark.job.description") == "counting in a test"
    assert context.getLocalProperty("spark.jobGroup.id") == group
    assert context.getLocalProperty("spark.job.description") is None
    context.setLocalProperty("spark.jobGroup.id", None)  # type: ignore[arg-type]
