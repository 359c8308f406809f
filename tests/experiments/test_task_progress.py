"""The lines that show how far a stage of Spark is."""

from pyspark import SparkStageInfo

from experiments.task_progress import progress_lines


def stage(number: int, finished: int, tasks: int) -> SparkStageInfo:
    return SparkStageInfo(number, 0, "count", tasks, 2, finished, 0)


def test_each_tenth_of_a_stages_tasks_is_printed_once() -> None:
    printed: dict[int, int] = {}
    lines = [progress_lines([stage(7, finished, 30)], printed) for finished in (0, 2, 3, 3, 5, 1, 17, 30)]
    assert lines == [
        [], [], ["stage 7: 3 of 30 tasks"], [], [], [], ["stage 7: 17 of 30 tasks"], ["stage 7: 30 of 30 tasks"],
    ]  # fmt: skip


def test_a_stage_prints_nothing_when_it_is_first_seen_whatever_other_stages_do() -> None:
    printed: dict[int, int] = {}
    assert progress_lines([stage(7, 1, 4)], printed) == []
    assert progress_lines([stage(7, 1, 4), stage(8, 3, 4)], printed) == []
    assert progress_lines([stage(7, 2, 4), stage(9, 0, 2)], printed) == ["stage 7: 2 of 4 tasks"]
    assert printed.keys() == {7, 9}
