"""Jobs on YARN, with data, store and runs in HDFS."""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path

import psutil
import pyspark
import pytest

from tests.conftest import ROOT, Finished, as_on_terminal
from tests.yarn.conftest import Hadoop

CNN = ["jobs/train_cnn.py", "--config", "conf/sample.yaml", "--training.epochs", 6, "--training.batch_size", 30]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("yarn")


@pytest.fixture(scope="module")
def cnn(hadoop: Hadoop, data: str, folder: Path) -> Finished:
    """A training in client mode. Paths without a scheme are in HDFS, the default file system."""
    return hadoop.submit(*CNN, "--data", "/data", "--run", "/runs/cnn", "--store", "/store", cwd=folder)


def test_a_network_is_trained_in_two_containers(cnn: Finished, hadoop: Hadoop, folder: Path) -> None:
    assert cnn.returncode == 0, cnn.stdout + cnn.stderr
    print(*(line for line in cnn.stdout.splitlines() if line.startswith("training")), sep="\n")
    ranks = re.search(r"training: rank 0 on \S+ \((container_\w+)\), rank 1 on \S+ \((container_\w+)\)", cnn.stdout)
    assert ranks is not None
    assert ranks[1] != ranks[2]
    metrics = json.loads(hadoop.read("/runs/cnn/metrics.json"))
    assert metrics["test"]["accuracy"] > 0.5
    assert metrics["rows"] == {"train": 2160, "validation": 240, "test": 480, "rejected": 0}
    assert [name.split("-")[0] for name in hadoop.names("/store")] == ["features"]
    assert list(folder.iterdir()) == []


def test_a_forest_is_trained_and_compared_with_the_network(cnn: Finished, hadoop: Hadoop, folder: Path) -> None:
    trees = ["--forest.trees", 5, "--forest.max-depth", 5]
    forest = hadoop.submit(
        "jobs/train_random_forest.py",
        *trees,
        "--data",
        "/data",
        "--run",
        "/runs/forest",
        "--store",
        "/store",
        cwd=folder,
    )
    assert forest.returncode == 0, forest.stdout + forest.stderr
    command = ["jobs/compare.py", "/runs/cnn", "/runs/forest", "--output", "/runs/comparison"]
    comparison = hadoop.submit(*command, cwd=folder)
    assert comparison.returncode == 0, comparison.stdout + comparison.stderr
    assert "cnn is better than forest" in comparison.stdout
    assert "report.html" in hadoop.names("/runs/comparison")


def test_prediction_reaches_the_accuracy_of_the_run(cnn: Finished, hadoop: Hadoop, folder: Path) -> None:
    command = ["jobs/predict.py", "/runs/cnn", "/data/sign_mnist_test.csv", "--output", "/answers"]
    finished = hadoop.submit(*command, cwd=folder)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    accuracies = [json.loads(hadoop.read(f"{path}/metrics.json")) for path in ("/answers", "/runs/cnn")]
    assert accuracies[0]["accuracy"] == accuracies[1]["test"]["accuracy"]


def test_a_training_survives_the_loss_of_a_container(hadoop: Hadoop, data: str, folder: Path) -> None:
    command = hadoop.command(*CNN, "--data", "/data", "--run", "/runs/lost", "--store", "/store")
    job = subprocess.Popen(command, cwd=folder, env=hadoop.environment, text=True, stdout=subprocess.PIPE)
    assert job.stdout is not None
    output = []
    for line in job.stdout:
        output.append(as_on_terminal(line))
        if output[-1].startswith("epoch 2/"):
            [container] = re.findall(r"rank 1 on \S+ \((\w+)\)", "".join(output))
            kill_container(container)
            break
    output += [as_on_terminal(line) for line in job.stdout]
    assert job.wait() == 0, "".join(output)
    metrics = json.loads(hadoop.read("/runs/lost/metrics.json"))
    assert metrics["restarts"] == 1
    assert metrics["failures"][0]["after_epoch"] >= 2


def kill_container(container: str) -> None:
    """Kill the processes of a container, as the kernel or a failing node does."""
    for process in psutil.process_iter(["environ"]):
        if (process.info["environ"] or {}).get("CONTAINER_ID") == container:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def test_the_driver_runs_on_the_cluster_in_cluster_mode(hadoop: Hadoop, data: str, folder: Path) -> None:
    command = ["--deploy-mode", "cluster", *CNN, "--data", "/data", "--run", "/runs/cluster", "--store", "/store"]
    finished = hadoop.submit(*command, cwd=folder)
    assert finished.returncode == 0, hadoop.driver_log()
    ranks = [line for line in hadoop.driver_log().splitlines() if line.startswith("training: ")]
    print("cluster mode:", *ranks)
    assert json.loads(hadoop.read("/runs/cluster/metrics.json"))["test"]["accuracy"] > 0.5


def test_sparks_own_spark_submit_and_an_environment_in_an_archive(hadoop: Hadoop, data: str, folder: Path) -> None:
    """Each container unpacks the archive to a path of its own, so the Python of the driver is nowhere else."""
    archive = environment_archive(folder)
    spark = Path(pyspark.__file__).parent
    settings = {
        "spark.yarn.appMasterEnv.PYTHONPATH": ROOT,
        "spark.yarn.appMasterEnv.PYSPARK_PYTHON": "./env/bin/python",
    }
    options = [word for name, value in settings.items() for word in ("--conf", f"{name}={value}")]
    command = hadoop.command(
        "--deploy-mode", "cluster", "--archives", f"{archive}#env", *options, *CNN,
        "--data", "/data", "--run", "/runs/archive", "--store", "/store", submit=spark / "bin/spark-submit",
    )  # fmt: skip
    environment = hadoop.environment | {"SPARK_HOME": str(spark), "PYSPARK_PYTHON": "./env/bin/python"}
    finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    archive.unlink()
    assert finished.returncode == 0, hadoop.driver_log()
    assert json.loads(hadoop.read("/runs/archive/metrics.json"))["test"]["accuracy"] > 0.5


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
