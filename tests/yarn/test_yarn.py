"""Jobs on YARN, with data, store and runs in HDFS."""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import pyspark
import pytest

from tests.conftest import ROOT, as_on_terminal
from tests.yarn.conftest import DYNAMIC_ALLOCATION, Hadoop

CNN = ["jobs/train_cnn.py", "--config", "conf/sample.yaml", "--training.epochs", 6, "--training.batch_size", 30]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("yarn")


Log = Callable[[], str]


def until(text: str, job: subprocess.Popen[str], log: Log) -> str:
    """Wait until a running job has printed ``text``, and return what it has printed."""
    while text not in log():
        assert job.poll() is None, log()
        time.sleep(0.2)
    return log()


def containers(log: str) -> list[str]:
    """The containers of the ranks."""
    return re.findall(r"rank \d on \S+ \((container_\w+)\)", log)


def history(hadoop: Hadoop, run: str) -> list[int]:
    return [int(line.split(",")[0]) for line in hadoop.read(f"/runs/{run}/history.csv").splitlines()[1:]]


def test_a_driver_on_the_cluster_is_started_again_and_resumes_the_training(
    hadoop: Hadoop, data: str, folder: Path
) -> None:
    """Cluster mode, with Spark's own spark-submit, an environment in an archive, which each container unpacks to a path
    of its own, and the number of executors left to Spark."""
    archive = environment_archive(folder)
    spark = Path(pyspark.__file__).parent
    settings = {
        "spark.yarn.appMasterEnv.PYTHONPATH": ROOT,
        "spark.yarn.appMasterEnv.PYSPARK_PYTHON": "./env/bin/python",
    }
    options = [word for name, value in settings.items() for word in ("--conf", f"{name}={value}")]
    command = hadoop.command(
        "--deploy-mode", "cluster", "--archives", f"{archive}#env", *options, *DYNAMIC_ALLOCATION, *CNN,
        "--data", "/data", "--run", "/runs/cluster", "--store", "/store", submit=spark / "bin/spark-submit",
    )  # fmt: skip
    environment = hadoop.environment | {"SPARK_HOME": str(spark), "PYSPARK_PYTHON": "./env/bin/python"}
    job = subprocess.Popen(command, cwd=folder, env=environment, text=True, stderr=subprocess.DEVNULL)

    def output() -> str:
        return "".join(log for _, log in hadoop.driver_logs())

    until("epoch 2/", job, output)
    hadoop.kill(hadoop.driver_logs()[-1][0])
    assert job.wait() == 0, output()
    archive.unlink()
    print("cluster mode:", *(line for line in output().splitlines() if line.startswith("training")), sep="\n")
    metrics = json.loads(hadoop.read("/runs/cluster/metrics.json"))
    assert metrics["test"]["accuracy"] > 0.5
    assert [failure["lost"] for failure in metrics["failures"]] == ["the driver"]
    assert history(hadoop, "cluster") == list(range(1, 7))


@pytest.fixture(scope="module")
def cnn(hadoop: Hadoop, data: str, folder: Path) -> str:
    """The output of a training in client mode that loses a node, and then its last container.

    Paths without a scheme are in HDFS, the default file system.
    """
    log = folder.parent / f"{folder.name}.log"
    command = hadoop.command(*CNN, "--data", "/data", "--run", "/runs/cnn", "--store", "/store")
    with log.open("w") as file:
        job = subprocess.Popen(command, cwd=folder, env=hadoop.environment, text=True, stdout=file, stderr=file)

    def output() -> str:
        return as_on_terminal(log.read_text())

    ranks = containers(until("epoch 2/", job, output))
    master = hadoop.node(hadoop.application_masters()[-1])
    [other, *_] = [node for node in map(hadoop.node, ranks) if node != master]
    other.stop()
    hadoop.kill(containers(until("epoch 4/", job, output))[-1])
    assert job.wait() == 0, output()
    return output()


def test_a_network_is_trained_in_two_containers_and_survives_the_loss_of_a_node_and_of_one(
    cnn: str, hadoop: Hadoop, folder: Path
) -> None:
    print("client mode:", *(line for line in cnn.splitlines() if line.startswith("training")), sep="\n")
    assert len(set(containers(cnn)[:2])) == 2
    metrics = json.loads(hadoop.read("/runs/cnn/metrics.json"))
    assert metrics["test"]["accuracy"] > 0.5
    assert metrics["rows"] == {"train": 2160, "validation": 240, "test": 480, "rejected": 0}
    assert metrics["restarts"] == 2
    assert history(hadoop, "cnn") == list(range(1, 7))
    assert [name.split("-")[0] for name in hadoop.names("/store")] == ["features"]
    assert list(folder.iterdir()) == []


def test_prediction_reaches_the_accuracy_of_the_run(cnn: str, hadoop: Hadoop, folder: Path) -> None:
    """On the node that is left."""
    paths = ["/runs/cnn", "/data/sign_mnist_test.csv", "--output", "/answers"]
    predicted = hadoop.submit("--num-executors", 1, "jobs/predict.py", *paths, cwd=folder)
    assert predicted.returncode == 0, predicted.stdout + predicted.stderr
    accuracies = [json.loads(hadoop.read(f"{path}/metrics.json")) for path in ("/answers", "/runs/cnn")]
    assert accuracies[0]["accuracy"] == accuracies[1]["test"]["accuracy"]


def environment_archive(folder: Path) -> Path:
    """An archive of a small environment with the packages of this one."""
    environment = folder / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    [packages] = environment.glob("lib/python*/site-packages")
    (packages / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    archive = folder / "env.tar.gz"
    subprocess.run(["tar", "--create", "--gzip", "--file", archive, "--directory", environment, "."], check=True)
    shutil.rmtree(environment)
    return archive
