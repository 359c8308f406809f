"""Horovod's processes on Spark's tasks, which end when they do."""

import os
import sys
from pathlib import Path

import pytest
from horovod.runner.common.service import task_service
from horovod.spark import runner
from pyspark.sql import SparkSession

from models.horovod_backend import PromptBackend, QuietPipe, _task
from models.process_output import LastLines


def test_every_rank_runs_and_horovod_is_left_as_it_was(spark: SparkSession) -> None:
    before = runner._task_fn
    backend = PromptBackend(2, verbose=0, stdout=LastLines(), stderr=LastLines())
    assert backend.run(lambda: os.environ["HOROVOD_RANK"]) == ["0", "1"]
    assert runner._task_fn is before


def test_a_task_waits_for_the_driver_a_moment_and_not_three_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "MINIMUM_COMMAND_LIFETIME_S", runner.MINIMUM_COMMAND_LIFETIME_S)
    monkeypatch.setattr(task_service, "Pipe", task_service.Pipe)
    monkeypatch.setenv("PYTHONPATH", "/a/users/own")
    monkeypatch.setattr(runner, "_task_fn", lambda *arguments: (arguments, runner.MINIMUM_COMMAND_LIFETIME_S))
    assert _task("index", "addresses") == (("index", "addresses"), 0.2)


def test_a_process_imports_the_projects_packages_that_spark_has_sent(spark: SparkSession) -> None:
    def look() -> tuple[str, list[str]]:
        import models

        return str(models.__file__), sys.path

    [(module, path)] = PromptBackend(1, verbose=0, stdout=LastLines(), stderr=LastLines()).run(look)
    assert "handshape.zip" in module
    assert not {"", str(Path.cwd())} & set(path)


def test_a_process_that_the_driver_no_longer_listens_to_may_go_on_printing() -> None:
    pipe = QuietPipe()
    pipe.write("epoch 1")
    assert pipe.read() == "epoch 1"
    pipe.close()
    pipe.write("epoch 2")
    assert pipe.read() is None
