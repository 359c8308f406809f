"""Horovod's processes in Spark tasks, which end when their processes end."""

import os
import sys
from pathlib import Path

import pytest
from horovod.runner.common.service import task_service
from horovod.spark import runner
from pyspark.sql import SparkSession

from training.cluster.horovod_backend import NoWaitBackend, QuietPipe, _task
from training.cluster.process_output import LastLines


def test_every_rank_runs_and_horovod_is_restored(spark: SparkSession) -> None:
    original = runner._task_fn
    backend = NoWaitBackend(2, verbose=0, stdout=LastLines(), stderr=LastLines())
    # a process uses the GPU with the number of its local rank, see tests/test_private_interfaces.py
    ranks = backend.run(lambda: (os.environ["HOROVOD_RANK"], os.environ["HOROVOD_LOCAL_RANK"]))
    assert ranks == [("0", "0"), ("1", "1")]
    assert runner._task_fn is original


def test_a_task_waits_for_the_driver_a_fifth_of_a_second_instead_of_three_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "MINIMUM_COMMAND_LIFETIME_S", runner.MINIMUM_COMMAND_LIFETIME_S)
    monkeypatch.setattr(task_service, "Pipe", task_service.Pipe)
    monkeypatch.setenv("PYTHONPATH", "/a/users/own")
    monkeypatch.setattr(runner, "_task_fn", lambda *arguments: (arguments, runner.MINIMUM_COMMAND_LIFETIME_S))
    assert _task("index", "addresses") == (("index", "addresses"), 0.2)


def test_a_process_imports_the_projects_packages_that_spark_has_sent(spark: SparkSession) -> None:
    def import_paths() -> tuple[str, list[str]]:
        import training

        return str(training.__file__), sys.path

    [(module, path)] = NoWaitBackend(1, verbose=0, stdout=LastLines(), stderr=LastLines()).run(import_paths)
    assert "handshape.zip" in module
    assert not {"", str(Path.cwd())} & set(path)


def test_a_process_can_print_after_the_driver_has_stopped_reading() -> None:
    pipe = QuietPipe()
    pipe.write("epoch 1")
    assert pipe.read() == "epoch 1"
    pipe.close()
    pipe.write("epoch 2")
    assert pipe.read() is None
