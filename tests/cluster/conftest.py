"""A cluster of containers for all tests in this folder: the master, two workers and the history server."""

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from preprocessing.synthetic import write_sample
from tests.conftest import ROOT, ROWS, Finished, as_on_terminal

PROJECT = "handshape-test"


class Job:
    """A job in a separate container, whose output is read line by line while it runs."""

    def __init__(self, cluster: "Cluster", name: str, arguments: list[str], options: list[str]) -> None:
        self.name = f"{PROJECT}-{name}"
        command = ["run", "--rm", "-T", "--name", self.name, *options, "submit", *arguments]
        self.process = subprocess.Popen(
            [*cluster.compose, *command],
            cwd=ROOT, env=cluster.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.lines: list[str] = []

    def until(self, prefix: str) -> str:
        """Read the output up to the next line that begins with a prefix, and return that line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(as_on_terminal(line.rstrip()))
            if self.lines[-1].startswith(prefix):
                return self.lines[-1]
        raise AssertionError(f"the job ended without {prefix!r}:\n" + "\n".join(self.lines))

    def finish(self) -> Finished:
        assert self.process.stdout is not None
        self.lines += [as_on_terminal(line.rstrip()) for line in self.process.stdout]
        # Compose prints what it creates, and v1 also prints the exit status
        output = [
            line for line in self.lines if not line.startswith(("Creating", " Container", " Network")) and len(line) > 3
        ]
        return subprocess.CompletedProcess([], self.process.wait(), "\n".join(output), "")


class Cluster:
    """The cluster as a project of Docker Compose."""

    def __init__(self, data: Path) -> None:
        has_v2 = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
        self.compose = [*(["docker", "compose"] if has_v2 else ["docker-compose"]), "--project-name", PROJECT]
        has_buildx = subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False).returncode == 0
        settings = {"SPARK_SECRET": secrets.token_hex(), "DATA_DIR": str(data), "DOCKER_BUILDKIT": str(int(has_buildx))}
        # free ports, because the user's cluster may be running
        ports = {"MASTER_PORT": "0", "MASTER_UI_PORT": "0", "HISTORY_PORT": "0", "SERVE_PORT": "0"}
        self.environment = os.environ | settings | ports
        self.jobs: list[Job] = []

    def call(self, *arguments: str) -> str:
        process = subprocess.run(
            [*self.compose, *arguments], cwd=ROOT, env=self.environment, text=True, capture_output=True, check=False
        )
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout.strip()

    def up(self) -> None:
        self.call("up", "--detach", "--no-build", "--scale", "worker=2", "master", "worker", "history")
        subprocess.run(
            ["docker/wait-healthy.sh", *self.compose],
            cwd=ROOT, env=self.environment, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def down(self) -> None:
        """Remove all containers, also those of services with a profile, and the volume."""
        profiles = ["--profile", "serve", "--profile", "submit"]
        self.call(*profiles, "down", "--volumes", "--remove-orphans")

    def job(self, name: str, *arguments: object, options: tuple[str, ...] = ()) -> Job:
        self.jobs.append(Job(self, name, [str(argument) for argument in arguments], list(options)))
        return self.jobs[-1]

    def workers(self) -> list[str]:
        """The host names of the workers, which are the short IDs of their containers."""
        return sorted(container[:12] for container in self.call("ps", "--quiet", "worker").split())

    def shell(self, service: str, script: str, user: str = "spark") -> str:
        return self.call("exec", "-T", "--user", user, service, "bash", "-c", script)

    def page(self, service: str, port: int, path: str) -> str:
        return self.shell(service, f"curl -fs http://localhost:{port}{path}")


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], text=True, capture_output=True, check=True).stdout


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    # not in pytest's temporary folder, which the user of the containers cannot read
    data = Path(tempfile.mkdtemp(prefix="handshape-"))
    (data / "sample").mkdir()
    write_sample(data / "sample", ROWS)
    data.chmod(0o755)
    test_cluster = Cluster(data)
    test_cluster.call("build", "master")
    # A test run that was killed leaves its containers and, on their volume, its runs.
    test_cluster.down()
    try:
        test_cluster.up()
        yield test_cluster
    finally:
        test_cluster.down()
        shutil.rmtree(data)


@pytest.fixture
def full_cluster(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, in which all containers that an earlier test has removed are running again."""
    cluster.up()
    assert eventually(lambda: cluster.page("master", 8080, "/json/").count('"ALIVE"') >= 2, 60)
    yield cluster
    for job in cluster.jobs:
        if job.process.poll() is None:  # left running by a test that failed
            docker("rm", "--force", job.name)
            job.process.wait()
