"""One Spark session and one small synthetic sample for all tests."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pyspark.sql import SparkSession

from jobs.session import open_session
from preprocessing.storage import Storage
from preprocessing.synthetic import write_sample

ROWS = {"train": 2400, "test": 480}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """From fast to slow: the jobs come last."""
    items.sort(key=lambda item: "jobs" in Path(item.fspath).parts)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    os.environ["SPARK_CONF_DIR"] = str(ROOT / "conf")
    # queries of a few thousand rows end before compiled code pays
    options = "--conf spark.ui.enabled=false --conf spark.sql.codegen.wholeStage=false"
    java = "--driver-memory 2g --driver-java-options '-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m'"
    os.environ["PYSPARK_SUBMIT_ARGS"] = f"--master local[2] {java} {options} pyspark-shell"
    session = open_session("tests")
    session.sparkContext.setCheckpointDir(str(tmp_path_factory.mktemp("checkpoints")))
    yield session
    session.stop()


@pytest.fixture(scope="session")
def storage(spark: SparkSession) -> Storage:
    return Storage(spark)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic sample small enough for seconds and large enough to learn from."""
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, ROWS)
    return folder


@pytest.fixture
def copied(sample: Path, tmp_path: Path) -> Path:
    """The sample's files, for a test to damage."""
    return Path(shutil.copytree(sample, tmp_path / "data"))


# A job of a minute ends before what the JVM's second compiler has made of it pays. As a user has it, without the folder
# that the tests' own session is configured from.
BRIEF = {"SPARK_SUBMIT_OPTS": "-XX:TieredStopAtLevel=1", "SPARK_CONF_DIR": ""}


def submit(*arguments: object, cwd: Path, timeout: int = 600) -> subprocess.CompletedProcess[str]:
    """Run a job as a user does."""
    words = [str(ROOT / word) if str(word).startswith("jobs/") else str(word) for word in arguments]
    command = [str(ROOT / ".venv/bin/spark-submit"), *words]
    return subprocess.run(
        command, cwd=cwd, env=os.environ | BRIEF, capture_output=True, text=True, timeout=timeout, check=False
    )
