"""Jobs that run in the process of the tests, in its Spark session: seconds faster than in a process of their own."""

import io
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.conftest import as_on_terminal

RunJob = Callable[..., str]


@pytest.fixture(scope="session")
def run_job(spark: SparkSession) -> RunJob:
    """Run a job, such as ``run_job("predict", "runs/cnn", "data", cwd=folder)``; return its output.

    An invalid input raises the error whose message the job would print.
    """

    def run(job: str, *arguments: object, cwd: Path) -> str:
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as output, redirect_stderr(output):
            patch.chdir(cwd)
            patch.setattr(sys, "argv", [f"jobs/{job}.py", *map(str, arguments)])
            environment = dict(os.environ)
            try:
                import_module(f"jobs.{job}").main()
            finally:  # MLflow passes its server on to later jobs of the process
                os.environ.clear()
                os.environ.update(environment)
        return as_on_terminal(output.getvalue())

    return run
