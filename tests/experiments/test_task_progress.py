"""The lines that show how far a stage of Spark is."""

import logging
import re
import time

import pytest
from pyspark.sql import SparkSession

from experiments import task_progress
from experiments.logs import LOGGER
from experiments.task_progress import print_task_progress


def test_the_finished_tasks_of_a_long_stage_are_printed(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    context = spark.sparkContext
    context.parallelize(range(2), 2).foreach(lambda _: time.sleep(0.5))  # the session has started its Python workers
    monkeypatch.setattr(task_progress, "INTERVAL_SECONDS", 0.1)
    monkeypatch.setattr(LOGGER, "propagate", True)
    caplog.set_level(logging.INFO, LOGGER.name)
    print_task_progress.__wrapped__(context)  # the thread of the session itself waits for ten seconds
    context.parallelize(range(6), 6).foreach(lambda _: time.sleep(0.5))
    lines = [re.fullmatch(r"(\d+) of (\d+) tasks", message) for message in caplog.messages]
    assert lines
    assert all(line and 0 < int(line[1]) <= int(line[2]) for line in lines)
