"""Horovod's processes on Spark's tasks, which end when they do."""

import os

import pytest
from horovod.spark import runner
from pyspark.sql import SparkSession

from models.horovod_backend import PromptBackend, _task
from models.process_output import LastLines


def test_every_rank_runs_and_horovod_is_left_as_it_was(spark: SparkSession) -> None:
    before = runner._task_fn
    backend = PromptBackend(2, verbose=0, stdout=LastLines(), stderr=LastLines())
    assert backend.run(lambda: os.environ["HOROVOD_RANK"]) == ["0", "1"]
    assert runner._task_fn is before


def test_a_task_waits_for_the_driver_a_moment_and_not_three_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "MINIMUM_COMMAND_LIFETIME_S", runner.MINIMUM_COMMAND_LIFETIME_S)
    monkeypatch.setattr(runner, "_task_fn", lambda *arguments: (arguments, runner.MINIMUM_COMMAND_LIFETIME_S))
    assert _task("index", "addresses") == (("index", "addresses"), 0.2)
