"""A cluster of containers: master, two workers and the history server, for all tests of this folder."""

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
from tests.conftest import ROOT, ROWS

PROJECT = "handshape-test"
Finished = subprocess.CompletedProcess[str]


class Job:
    """A job in a container of its own, whose lines are read as they come."""

    def __init__(self, cluster: "Cluster", name: str, words: list[str], options: list[str]) -> None:
        self.name = f"{PROJECT}-{name}"
        command = ["run", "--rm", "-T", "--name", self.name, *options, "submit", *words]
        self.process = subprocess.Popen(
            [*cluster.compose, *command],
            cwd=ROOT, env=cluster.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.lines: list[str] = []

    def until(self, begin: str) -> str:
        """Read up to the line that begins like this."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if line.startswith(begin):
                return line
        raise AssertionError(f"the job ended without {begin!r}:\n" + "\n".join(self.lines))

    def finish(self) -> Finished:
        assert self.process.stdout is not None
        self.lines += [line.rstrip() for line in self.process.stdout]
        # compose says what it creates, and v1 the exit status
        said = [
            line for line in self.lines if not line.startswith(("Creating", " Container", " Network")) and len(line) > 3
        ]
        return subprocess.CompletedProcess([], self.process.wait(), "\n".join(said), "")


class Cluster:
    """Docker Compose's view of the cluster."""

    def __init__(self, data: Path) -> None:
        v2 = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
        self.compose = [*(["docker", "compose"] if v2 else ["docker-compose"]), "--project-name", PROJECT]
        buildx = subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False).returncode == 0
        settings = {"SPARK_SECRET": secrets.token_hex(), "DATA_DIR": str(data), "DOCKER_BUILDKIT": str(int(buildx))}
        # beside a cluster that may be up already
        ports = {"MASTER_PORT": "0", "MASTER_UI_PORT": "0", "HISTORY_PORT": "0", "SERVE_PORT": "0"}
        self.environment = os.environ | settings | ports
        self.jobs: list[Job] = []

    def call(self, *words: str) -> str:
        done = subprocess.run(
            [*self.compose, *words], cwd=ROOT, env=self.environment, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def up(self) -> None:
        self.call("up", "--detach", "--no-build", "--scale", "worker=2", "master", "worker", "history")
        subprocess.run(
            ["docker/wait-healthy.sh", *self.compose],
            cwd=ROOT, env=self.environment, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def job(self, name: str, *words: object, options: tuple[str, ...] = ()) -> Job:
        self.jobs.append(Job(self, name, [str(word) for word in words], list(options)))
        return self.jobs[-1]

    def workers(self) -> list[str]:
        """The containers' names for themselves."""
        return sorted(container[:12] for container in self.call("ps", "--quiet", "worker").split())

    def shell(self, service: str, script: str, user: str = "spark") -> str:
        return self.call("exec", "-T", "--user", user, service, "bash", "-c", script)

    def page(self, service: str, port: int, path: str) -> str:
        return self.shell(service, f"curl -fs http://localhost:{port}{path}")


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], text=True, capture_output=True, check=True).stdout


def eventually(found: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not found():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    # not pytest's own folder: the containers' user has to read it
    data = Path(tempfile.mkdtemp(prefix="handshape-"))
    (data / "sample").mkdir()
    write_sample(data / "sample", ROWS)
    data.chmod(0o755)
    started = Cluster(data)
    started.call("build", "master")
    try:
        started.up()
        yield started
    finally:
        started.call("down", "--volumes", "--remove-orphans")
        shutil.rmtree(data)


@pytest.fixture
def whole(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with all that an earlier test has taken from it."""
    cluster.up()
    assert eventually(lambda: cluster.page("master", 8080, "/json/").count('"ALIVE"') >= 2, 60)
    yield cluster
    for job in cluster.jobs:
        if job.process.poll() is None:  # a test that failed has left it
            docker("rm", "--force", job.name)
            job.process.wait()
