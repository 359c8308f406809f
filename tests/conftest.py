"""One Spark session and one small synthetic sample for all tests."""

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pyspark.sql import SparkSession

from experiments.logs import configure_logging
from experiments.session import open_session
from preprocessing.storage import Storage
from preprocessing.synthetic import write_sample

configure_logging()

ROWS = {"train": 2400, "test": 480}
Finished = subprocess.CompletedProcess[str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run fast tests first, and those of the jobs last. Mark the tests that use a Spark session."""
    # the file that takes longest is not the last one, for which one of two processes would wait
    items.sort(key=lambda item: 2 * ("jobs" in item.path.parts) - (item.path.name == "test_training_jobs.py"))
    for item in items:
        if "spark" in getattr(item, "fixturenames", ()):
            item.add_marker("spark")


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    settings = {
        "spark.ui.enabled": "false",
        # queries on a few thousand rows take less time in few tasks, and without generated code
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.files.minPartitionNum": "2",
        "spark.sql.shuffle.partitions": "2",
    }
    options = " ".join(f"--conf {name}={value}" for name, value in settings.items())
    java_options = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m -XX:+UseSerialGC"
    java = f"--driver-memory 2g --driver-java-options '{java_options}'"
    os.environ["PYSPARK_SUBMIT_ARGS"] = f"--master local[2] {java} {options} pyspark-shell"
    session = open_session("tests", worker_modules=("training.tuning.trials",))
    session.sparkContext.setCheckpointDir(str(tmp_path_factory.mktemp("checkpoints")))
    yield session
    session.stop()


@pytest.fixture(scope="session")
def storage(spark: SparkSession) -> Storage:
    return Storage(spark)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic sample, small enough to train on in seconds and large enough to learn from."""
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, ROWS)
    return folder


@pytest.fixture(scope="session")
def small_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample for jobs whose accuracy does not matter."""
    folder = tmp_path_factory.mktemp("small_sample")
    write_sample(folder, {"train": 480, "test": 96})
    return folder


@pytest.fixture
def copied(sample: Path, tmp_path: Path) -> Path:
    """A copy of the sample's files that a test may damage."""
    return Path(shutil.copytree(sample, tmp_path / "data"))


# The JVM's second compiler does not pay off in jobs of a minute. SPARK_CONF_DIR, which configures the session of the
# tests, is cleared: users do not set it.
BRIEF = {"SPARK_SUBMIT_OPTS": "-XX:TieredStopAtLevel=1", "SPARK_CONF_DIR": ""}


def as_on_terminal(output: str) -> str:
    """The messages of an output as a terminal shows them: no times, and levels of warnings and errors only."""
    return re.sub(r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ((info|debug): )?", "", output)


def submit(*arguments: object, cwd: Path, timeout: int = 600) -> Finished:
    """Run a job as a user does."""
    command = [str(ROOT / ".venv/bin/spark-submit")]
    command += [str(ROOT / argument) if str(argument).startswith("jobs/") else str(argument) for argument in arguments]
    finished = subprocess.run(
        command, cwd=cwd, env=os.environ | BRIEF, capture_output=True, text=True, timeout=timeout, check=False
    )
    finished.stdout, finished.stderr = as_on_terminal(finished.stdout), as_on_terminal(finished.stderr)
    return finished


RunJob = Callable[..., str]


@pytest.fixture(scope="session")
def run_job(spark: SparkSession) -> RunJob:
    """Run a job in this process, in the session of the tests: seconds faster than in a process of its own.

    ``run_job("predict", "runs/cnn", "data", cwd=folder)`` returns its output. An invalid input raises the error whose
    message the job would print.
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
