"""Problems that prevent a session from being opened, reported before Spark starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from experiments.packages import zip_packages
from experiments.session import JAVA_NAMES, SessionError, check_python, startup_error


def python(folder: Path, script: str) -> str:
    """Create a Python executable that is a shell script."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_the_drivers_python_is_accepted_without_being_started(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: started.append(arguments))
    check_python(sys.executable)
    assert started == []


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo 3.9", "Python 3.9; the driver has Python 3.11"),
        ("echo 3.11 numpy tensorflow", "which lacks numpy, tensorflow"),
        ("echo 'libpython3.11.so: not found' >&2; exit 127", "does not start (libpython3.11.so: not found)"),
        ("exit 4", "does not start (exit status 4)"),
    ],
)
def test_an_unsuitable_python_is_named_with_its_problem(script: str, problem: str, tmp_path: Path) -> None:
    path = python(tmp_path, script)
    with pytest.raises(SessionError) as caught:
        check_python(path)
    assert str(caught.value).startswith(f"PYSPARK_PYTHON is {path}, ")
    assert problem in str(caught.value)
    assert str(caught.value).endswith(f"unset PYSPARK_PYTHON, or set it to {sys.executable}")


def test_a_python_that_does_not_exist_is_named() -> None:
    with pytest.raises(SessionError, match=r"^PYSPARK_PYTHON is /nowhere/python, which does not exist"):
        check_python("/nowhere/python")


def test_the_packages_that_a_python_lacks_are_named(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    with pytest.raises(SessionError, match="which lacks numpy, pandas, pyarrow, PIL,"):
        check_python(f"{tmp_path}/bare/bin/python")


def test_workers_import_no_module_from_the_working_directory_and_use_the_jobs_temporary_folder(
    spark: SparkSession,
) -> None:
    def inspect(_: int) -> tuple[list[str], str, str]:
        import tempfile

        import preprocessing

        return sys.path, str(preprocessing.__file__), tempfile.gettempdir()

    [(path, module, temporary_folder)] = spark.sparkContext.parallelize([0], 1).map(inspect).collect()
    assert not {"", ".", str(Path.cwd())} & set(path)
    assert "handshape.zip" in module
    assert temporary_folder == os.environ["TMPDIR"]
    assert Path(temporary_folder).name.startswith("handshape-")


def test_jobs_that_share_a_temporary_folder_do_not_overwrite_each_others_packages(tmp_path: Path) -> None:
    first, second = zip_packages(tmp_path), zip_packages(tmp_path)
    assert first != second
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    "message",
    [
        "java.lang.IllegalStateException: Cannot call methods on a stopped SparkContext.",
        'java.lang.NullPointerException: because the return value of "org.apache.spark.SparkEnv$.get()" is null',
    ],
)
def test_a_session_that_spark_stops_during_its_start_was_not_accepted_by_the_master(message: str) -> None:
    assert "refused this job" in startup_error(RuntimeError(message), "spark://master:7077")
    assert startup_error(RuntimeError(message), "local[2]").startswith("Spark cannot be started: java.lang.")


def test_a_users_number_of_tasks_is_kept(spark: SparkSession) -> None:
    # those that the session of the tests was started with, see tests/conftest.py; the project's own would be 4
    for name in ("spark.sql.shuffle.partitions", "spark.sql.files.minPartitionNum"):
        assert spark.conf.get(name) == "2"
    assert spark.conf.get("spark.sql.adaptive.enabled") == "false"


def test_pyspark_looks_up_names_in_java_once_and_not_for_every_expression(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []

    def look_up(self: object, name: str) -> None:
        looked_up.append(name)

    with monkeypatch.context() as patch:
        patch.setattr("py4j.java_gateway.JVMView.__getattr__", look_up)
        spark.range(3).where(F.col("id") > F.lit(1)).select(F.concat("id", F.lit("a")))
    assert looked_up == []
    assert set(JAVA_NAMES) <= vars(spark._jvm).keys()
