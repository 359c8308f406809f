"""Jobs on a cluster of containers, with real network connections and real failures."""

import io
import json
import re

import numpy as np
import pandas as pd
import pytest
import requests

from tests.cluster.conftest import PROJECT, Cluster, Job, docker, eventually
from tests.conftest import ROOT, Finished

CNN = ["jobs/train_cnn.py", "--config", "conf/sample.yaml", "--data", "/data/sample", "--training.epochs", "6"]


def metrics(cluster: Cluster, run: str) -> dict:
    return json.loads(cluster.shell("master", f"cat /shared/runs/{run}/metrics.json"))


def history(cluster: Cluster, run: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(cluster.shell("master", f"cat /shared/runs/{run}/history.csv")))


def leftovers(cluster: Cluster) -> list[str]:
    """Files in the store, except for the features, which other jobs reuse, and hidden files next to the runs."""
    command = "ls /shared/store | grep -v '^features-'; ls -A /shared/runs | grep '^[.]' || true"
    return cluster.shell("master", command).split()


def horovod_processes(cluster: Cluster) -> str:
    """Horovod's processes on all workers."""
    return "".join(
        docker("exec", name, "bash", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o [g]loo_exec_fn || true")
        for name in cluster.workers()
    )


def assert_rejected(finished: Finished, *expected: str) -> None:
    assert finished.returncode != 0
    [message] = [line for line in finished.stdout.splitlines() if not line.startswith(("reading", "rows"))]
    assert message.startswith("error: ")
    for part in expected:
        assert part in message


@pytest.fixture(scope="module")
def wrong_secret(cluster: Cluster) -> Job:
    """A job with a wrong secret. Spark gives up after a minute, in which other tests run."""
    return cluster.job("secret", *CNN, options=("-e", "SPARK_SECRET=wrong"))


@pytest.fixture(scope="module")
def trained(cluster: Cluster, wrong_secret: Job) -> Finished:
    """A training during which the master restarts. Its run is used by several tests, as a training takes minutes."""
    job = cluster.job("trained", *CNN, "--training.epochs", "9", "--training.batch-size", "30", "--run", "runs/trained")
    job.until("epoch 1/9")
    cluster.call("restart", "master")
    return job.finish()


def test_a_network_is_trained_on_both_workers_even_if_the_master_restarts(trained: Finished, cluster: Cluster) -> None:
    assert trained.returncode == 0, trained.stdout
    ranks = re.search(r"training: rank 0 on (\w+), rank 1 on (\w+)", trained.stdout)
    assert ranks is not None
    assert sorted(ranks.groups()) == cluster.workers()
    results = metrics(cluster, "trained")
    # 24 letters: chance is 0.04; a local training with the same rows and settings has a similar accuracy
    assert results["test"]["accuracy"] > 0.7
    assert results["rows"] == {"train": 2160, "validation": 240, "test": 480, "rejected": 0}
    assert results["num_proc"] == 2
    # There is no restart if the master is back within the 5 to 15 seconds after which a worker registers again. If it
    # takes longer, as on a cold disk, Spark kills the executor of a worker that registers while the master recovers.
    assert results["restarts"] <= 1
    assert history(cluster, "trained")["epoch"].tolist() == list(range(1, 10))
    assert leftovers(cluster) == []


def test_the_finished_job_is_in_the_history_server(trained: Finished, cluster: Cluster) -> None:
    def finished() -> list[str]:
        applications = json.loads(cluster.page("history", 18080, "/api/v1/applications?status=completed"))
        return [application["name"] for application in applications]

    assert eventually(lambda: "train_cnn" in finished())


def test_all_containers_are_healthy_and_their_ports_are_open_to_this_machine_only(cluster: Cluster) -> None:
    containers = cluster.call("ps", "--quiet").split()
    assert len(containers) == 4
    for container in json.loads(docker("inspect", *containers)):
        assert container["State"]["Health"]["Status"] == "healthy"
        assert container["Config"]["User"] == "spark"
        published = [address for ports in container["NetworkSettings"]["Ports"].values() for address in ports or []]
        assert {address["HostIp"] for address in published} <= {"127.0.0.1"}


def test_no_compiler_and_no_cache_is_in_the_image(cluster: Cluster) -> None:
    assert cluster.shell("master", "command -v g++ gcc cc make cmake || true") == ""
    assert cluster.shell("master", "ls /var/lib/apt/lists; ls -A ~/.cache 2>/dev/null || true", "root") == ""


def test_a_forest_is_trained_on_the_workers(cluster: Cluster) -> None:
    trees = ["--forest.trees", "5", "--forest.max-depth", "5"]
    finished = cluster.job(
        "forest", "jobs/train_random_forest.py", "--data", "/data/sample", *trees, "--run", "runs/forest"
    ).finish()
    assert finished.returncode == 0, finished.stdout
    assert metrics(cluster, "forest")["num_proc"] == 2


def test_a_run_is_served_by_a_read_only_container(trained: Finished, cluster: Cluster) -> None:
    cluster.environment["RUN"] = "runs/trained"
    cluster.call("up", "--detach", "--no-build", "serve")
    container = cluster.call("ps", "--quiet", "serve")
    address = docker("port", container, "8080").splitlines()[0].strip()
    assert address.startswith("127.0.0.1:")

    def ready() -> bool:
        try:
            return requests.get(f"http://{address}/ping", timeout=2).ok
        except requests.RequestException:
            return False

    assert eventually(ready, 90), docker("logs", container)
    rows = cluster.shell("master", "sed -n 2,101p /data/sample/sign_mnist_test.csv").splitlines()
    labels, pixels = zip(*(row.split(",", 1) for row in rows), strict=True)
    response = requests.post(
        f"http://{address}/invocations", "\n".join(pixels), headers={"Content-Type": "text/csv"}, timeout=60
    )
    letters = [prediction["letter"] for prediction in response.json()["predictions"]]
    accuracy = np.mean([letter == chr(ord("A") + int(label)) for letter, label in zip(letters, labels, strict=True)])
    assert accuracy > 0.7  # like the run's test accuracy
    assert (
        cluster.shell("serve", "id -un; touch /opt/handshape/x /shared/x ~/x 2>&1 | grep -c 'Read-only'") == "spark\n3"
    )
    docker("stop", "--time", "20", container)
    [state] = json.loads(docker("inspect", container))
    assert state["State"]["ExitCode"] in (0, 143)  # stopped cleanly, not killed (137)
    cluster.call("rm", "--force", "serve")


def test_a_job_continues_when_a_worker_is_killed_and_uses_it_when_it_is_back(full_cluster: Cluster) -> None:
    job = full_cluster.job("lost", *CNN, "--training.epochs", "8", "--training.batch-size", "30", "--run", "runs/lost")
    [rank_0] = re.findall(r"rank 0 on (\w+)", job.until("training:"))
    [other] = set(full_cluster.workers()) - {rank_0}
    job.until("epoch 2/8")
    docker("kill", rank_0)
    assert f"rank 0 on {other}" in job.until("training:")
    docker("start", rank_0)
    assert eventually(lambda: '"aliveworkers" : 2' in full_cluster.page("master", 8080, "/json/"))
    job.until("epoch 4/8")
    kill_horovod = "for p in /proc/[0-9]*; do grep -qz '[g]loo_exec_fn' $p/cmdline && kill -9 ${p#/proc/}; done; true"
    docker("exec", other, "bash", "-c", kill_horovod)
    assert set(re.findall(r"rank \d on (\w+)", job.until("training:"))) == {rank_0, other}
    finished = job.finish()
    assert finished.returncode == 0, finished.stdout
    assert finished.stdout.count("lost ") == 2
    results, epochs = metrics(full_cluster, "lost"), history(full_cluster, "lost")
    assert epochs["epoch"].tolist() == list(range(1, 9))
    assert results["restarts"] == len(results["failures"]) == 2
    assert [failure["num_proc"] for failure in results["failures"]] == [1, 2]
    assert results["failures"][0]["after_epoch"] >= 2
    assert all(failure["seconds"] > 0 for failure in results["failures"])
    assert results["test"]["accuracy"] > 0.6
    assert "Failures during training" in full_cluster.shell("master", "cat /shared/runs/lost/report.html")
    assert leftovers(full_cluster) == []


def test_a_job_continues_when_a_host_is_disconnected_from_the_network(full_cluster: Cluster) -> None:
    # Spark notices a silent host after this time, by default a minute.
    timeouts = ["--conf", "spark.network.timeout=15s", "--conf", "spark.executor.heartbeatInterval=3s"]
    job = full_cluster.job("silent", *timeouts, *CNN, "--run", "runs/silent")
    [rank_0] = re.findall(r"rank 0 on (\w+)", job.until("training:"))
    [other] = set(full_cluster.workers()) - {rank_0}
    job.until("epoch 1/6")
    network = f"{PROJECT}_default"
    docker("network", "disconnect", network, other)  # its sockets stay open, but receive nothing
    try:
        finished = job.finish()
    finally:
        docker("rm", "--force", other)  # Compose creates another one
    assert finished.returncode == 0, finished.stdout
    assert metrics(full_cluster, "silent")["restarts"] == 1
    assert history(full_cluster, "silent")["epoch"].tolist() == list(range(1, 7))


def test_a_job_can_be_resumed_after_the_store_was_read_only_it_was_stopped_and_it_lost_its_driver(
    full_cluster: Cluster,
) -> None:
    # enough epochs that the training has not finished when the workers notice the loss of the driver
    command = [*CNN, "--training.epochs", "16", "--run", "runs/resumed"]
    job = full_cluster.job("readonly", *command)
    job.until("epoch  1/16")
    full_cluster.shell("master", "chmod a-w /shared/store/resumed-*/checkpoints")
    finished = job.finish()
    assert finished.returncode != 0
    assert "Permission denied: the checkpoint of epoch " in finished.stdout.splitlines()[-1]
    assert "--resume continues" in finished.stdout.splitlines()[-1]
    full_cluster.shell("master", "chmod u+w /shared/store/resumed-*/checkpoints")
    assert full_cluster.shell("master", "ls /shared/store/resumed-*/checkpoints | grep -c epoch-") != "0"

    job = full_cluster.job("stopped", *command, "--resume")
    job.until("epoch")
    docker("stop", "--time", "60", job.name)
    finished = job.finish()
    assert finished.returncode != 0
    assert "error: interrupted, no run was written; " in finished.stdout
    assert "the same command with --resume continues" in finished.stdout
    assert eventually(lambda: horovod_processes(full_cluster) == "")
    assert full_cluster.shell("master", "ls -A /shared/runs | grep resumed || true") == ""

    job = full_cluster.job("killed", *command, "--resume")
    job.until("epoch")
    docker("kill", job.name)
    job.finish()
    assert eventually(lambda: horovod_processes(full_cluster) == "")

    finished = full_cluster.job("resumed", *command, "--resume").finish()
    assert finished.returncode == 0, finished.stdout
    results, epochs = metrics(full_cluster, "resumed"), history(full_cluster, "resumed")
    assert epochs["epoch"].tolist() == list(range(1, 17))
    assert [failure["lost"] for failure in results["failures"]] == ["the driver"] * 3
    assert leftovers(full_cluster) == []


class TestInvalidInput:
    """Invalid input results in one clear error, and no files are left."""

    @pytest.fixture(autouse=True)
    def _no_files_are_left(self, full_cluster: Cluster) -> object:
        yield
        assert leftovers(full_cluster) == []

    def test_a_wrong_secret(self, wrong_secret: Job) -> None:
        assert_rejected(wrong_secret.finish(), "refused this job", "SPARK_SECRET")

    def test_no_secret(self, full_cluster: Cluster) -> None:
        assert_rejected(
            full_cluster.job("none", *CNN, options=("-e", "SPARK_SECRET=")).finish(),
            "no secret",
            "SPARK_SECRET in .env",
        )

    def test_slots_and_folders_that_the_workers_do_not_have(self, full_cluster: Cluster) -> None:
        """Four trainings in one job, one after the other."""
        expected = [
            (["--num-proc", "3"], ["--num-proc 3 needs 3 task slots", "2 free of 2"]),
            (["--store", "/tmp/store"], ["/tmp/store/", "--store", f"host {full_cluster.workers()[0]}"]),
            (["--run", "/tmp/run"], ["/tmp/run: host ", "--run", "cannot write there"]),
            (["--data", "/only"], ["/only: host ", "cannot read it"]),
        ]
        commands = json.dumps([[*CNN, *options] for options, _ in expected])
        data = f"{full_cluster.environment['DATA_DIR']}/sample"
        script = ROOT / "tests/cluster/rejected_jobs.py"
        mounts = ("-v", f"{script}:/opt/handshape/jobs/rejected_jobs.py:ro", "-v", f"{data}:/only:ro")
        finished = full_cluster.job("rejected", "jobs/rejected_jobs.py", commands, options=mounts).finish()
        errors = finished.stdout.splitlines()  # nothing else is printed
        assert len(errors) == len(expected), finished.stdout
        for error, (_, parts) in zip(errors, expected, strict=True):
            assert error.startswith("error: ")
            assert [part for part in parts if part not in error] == [], finished.stdout

    def test_a_worker_with_another_version_of_a_package(self, full_cluster: Cluster) -> None:
        file = "/opt/handshape/.venv/lib/python3.11/site-packages/petastorm-*.dist-info/METADATA"
        worker = full_cluster.workers()[0]
        docker("exec", "--user", "root", worker, "bash", "-c", f"sed -i.was 's/^Version: .*/Version: 0.9/' {file}")
        try:
            assert_rejected(
                full_cluster.job("version", *CNN).finish(), f"host {worker}", "has petastorm 0.9, the driver 0.13.1"
            )
        finally:
            docker("exec", "--user", "root", worker, "bash", "-c", f"for f in {file}; do mv $f.was $f; done")
