"""Jobs as Databricks runs a Python task: in a kernel of IPython, without ``__file__``, in a session that is there."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

from experiments.launch import prepare
from preprocessing.synthetic import write_sample
from tests.conftest import BRIEF, ROOT

SESSION = """
import sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
"""
TASK = """
sys.argv = {arguments!r}
with open(sys.argv[0]) as file:
    exec(compile(file.read(), sys.argv[0], "exec"), {{"__name__": "__main__"}})
"""
Run = Callable[[str], tuple[str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kernel")
    (folder / "data").mkdir()
    write_sample(folder / "data", {"train": 240, "test": 48})
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Iterator[Run]:
    """Run code in the kernel, and return its error, if there is one, and its output."""
    environment = os.environ | BRIEF
    prepare(environment, ["pyspark-shell"])
    manager, client = start_new_kernel(cwd=str(folder), env=environment)

    def execute(code: str) -> tuple[str, str]:
        return _execute(client, code)

    yield execute
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def _execute(client: BlockingKernelClient, code: str) -> tuple[str, str]:
    output: list[str] = []

    def keep(message: dict) -> None:
        output.append(message["content"].get("text", ""))

    reply = client.execute_interactive(code, output_hook=keep, timeout=300)["content"]
    error = f"{reply['ename']}: {reply['evalue']}" if reply["status"] == "error" else ""
    return error, "".join(output)


def task(job: str, *arguments: object) -> str:
    return TASK.format(arguments=[str(ROOT / "jobs" / f"{job}.py"), *map(str, arguments)])


def test_jobs_run_one_after_the_other_in_one_session_that_lives_on(run: Run, folder: Path) -> None:
    assert run(SESSION)[0] == ""
    assert run("'__file__' in dir() and 1/0")[0] == ""
    data = ["--data", folder / "data", "--store", folder / "store"]
    network = ["--network.name", "baseline", "--training.epochs", 1, "--num-proc", 1]
    error, output = run(task("train_cnn", *data, *network, "--run", folder / "runs/cnn"))
    assert error == "", output
    assert "test accuracy" in output
    test = folder / "data/sign_mnist_test.csv"
    error, output = run(task("predict", folder / "runs/cnn", test, "--output", folder / "answers"))
    assert error == "", output
    assert (folder / "answers/metrics.json").exists()
    assert run("assert spark.range(3).count() == 3")[0] == ""


def test_a_failed_job_is_a_failed_task_and_the_session_lives_on(run: Run, folder: Path) -> None:
    run(SESSION)
    error, _ = run(task("train_random_forest", "--data", folder / "nowhere", "--run", folder / "runs/failed"))
    assert error.startswith("JobError: ")
    assert "nowhere" in error
    assert run("assert spark.range(3).count() == 3")[0] == ""
    assert not (folder / "runs/failed").exists()
