"""A cluster with HDFS and YARN: a data node and two node managers in one JVM, which the tests start and stop."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pyspark
import pytest
from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway

from experiments.java_runtime import choose_java
from preprocessing.synthetic import write_sample
from tests.conftest import BRIEF, ROOT, ROWS, Finished, as_on_terminal

JARS = ROOT / ".jars/yarn"
SERVER = {
    "dfs.replication": "1",
    "yarn.log-aggregation-enable": "false",
    "yarn.nodemanager.delete.debug-delay-sec": "600",  # the logs of containers stay
    "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": "100.0",
    "yarn.nodemanager.pmem-check-enabled": "false",
    "yarn.nodemanager.vmem-check-enabled": "false",
    "yarn.nodemanager.resource.cpu-vcores": "2",
    "yarn.nodemanager.resource.memory-mb": "6144",
    "yarn.scheduler.minimum-allocation-mb": "256",
    "yarn.scheduler.capacity.maximum-am-resource-percent": "1.0",
    # the containers of a job are on both nodes
    "yarn.scheduler.capacity.per-node-heartbeat.multiple-assignments-enabled": "false",
    "yarn.scheduler.capacity.root.queues": "default",
    "yarn.scheduler.capacity.root.default.capacity": "100",
}
# The server's own configuration names classes that clients do not have.
CLIENT = [
    f"yarn.resourcemanager.{name}address" for name in ("", "scheduler.", "resource-tracker.", "admin.", "webapp.")
]


DYNAMIC_ALLOCATION = [
    "--conf", "spark.dynamicAllocation.enabled=true",
    "--conf", "spark.dynamicAllocation.shuffleTracking.enabled=true",
]  # fmt: skip


class Hadoop:
    """A running cluster.

    Args:
        folder: folder for the files of the cluster.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = dict(os.environ)
        choose_java(environment)
        port, self.process = launch_gateway(
            jarpath=str(next(Path(pyspark.__file__).parent.glob("jars/py4j-*.jar"))),
            classpath=":".join(str(jar) for jar in JARS.glob("*.jar")),
            javaopts=["--add-opens", "java.base/java.lang=ALL-UNNAMED", f"-Dtest.build.data={folder}/data", "-Xmx1g"],
            java_path=f"{environment['JAVA_HOME']}/bin/java" if "JAVA_HOME" in environment else "java",
            redirect_stdout=(folder / "out.log").open("w"),
            redirect_stderr=(folder / "err.log").open("w"),
            cwd=str(folder),
            die_on_exit=True,
            return_proc=True,
        )
        self.gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, auto_convert=True))
        jvm: Any = self.gateway.jvm
        settings = jvm.org.apache.hadoop.yarn.conf.YarnConfiguration()
        for name, value in SERVER.items():
            settings.set(name, value)
        builder = jvm.org.apache.hadoop.hdfs.MiniDFSCluster.Builder(settings, jvm.java.io.File(f"{folder}/dfs"))
        self.hdfs = builder.numDataNodes(1).build()
        self.hdfs.waitActive()
        self.yarn = jvm.org.apache.hadoop.yarn.server.MiniYARNCluster("handshape", 2, 1, 1)
        self.yarn.init(settings)
        self.yarn.start()
        assert self.yarn.waitForNodeManagersToConnect(30_000)
        self.url = f"hdfs://localhost:{self.hdfs.getNameNodePort()}"
        self.files = self.hdfs.getFileSystem()
        self.path = jvm.org.apache.hadoop.fs.Path
        self.configuration = folder / "conf"
        self.configuration.mkdir()
        write_site(self.configuration / "core-site.xml", {"fs.defaultFS": self.url})
        write_site(self.configuration / "hdfs-site.xml", {"dfs.replication": "1"})
        write_site(self.configuration / "yarn-site.xml", {name: self.yarn.getConfig().get(name) for name in CLIENT})

    def stop(self) -> None:
        """Stop all daemons at once, which would take half a minute one after the other."""
        self.gateway.shutdown()
        self.process.kill()
        self.process.wait()

    def upload(self, local: Path, path: str) -> None:
        self.files.copyFromLocalFile(self.path(local.as_uri()), self.path(path))

    def names(self, path: str) -> list[str]:
        return sorted(status.getPath().getName() for status in self.files.listStatus(self.path(path)))

    def read(self, path: str) -> str:
        copy = self.folder / "copy"
        self.files.copyToLocalFile(False, self.path(path), self.path(copy.as_uri()), True)
        return copy.read_text()

    def command(self, *arguments: object, submit: Path = ROOT / ".venv/bin/spark-submit") -> list[str]:
        # the nodes have Spark's jars, which are not uploaded for each job
        jars = f"spark.yarn.jars=local:{Path(pyspark.__file__).parent}/jars/*"
        resources = ["--conf", jars, "--executor-cores", 1, "--executor-memory", "1g", "--driver-memory", "1g"]
        if DYNAMIC_ALLOCATION[1] not in arguments:
            resources += ["--num-executors", 2]
        words = [submit, "--master", "yarn", *resources, *arguments]
        return [str(ROOT / word) if re.match("(jobs|conf)/", str(word)) else str(word) for word in words]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | BRIEF | {"HADOOP_CONF_DIR": str(self.configuration)}

    def submit(self, *arguments: object, cwd: Path) -> Finished:
        """Run a job as a user does."""
        finished = subprocess.run(
            self.command(*arguments), cwd=cwd, env=self.environment, capture_output=True, text=True, check=False
        )
        finished.stdout, finished.stderr = as_on_terminal(finished.stdout), as_on_terminal(finished.stderr)
        return finished

    def application_masters(self) -> list[str]:
        """The containers of the application masters, the last one last. In cluster mode they are the drivers."""
        logs = self.folder.glob("data/*/*/*-logDir-*/application_*/container_*_000001")
        return [path.name for path in sorted(logs, key=lambda path: path.stat().st_mtime)]

    def driver_logs(self) -> list[tuple[str, str]]:
        """For each driver on the cluster: its container, and what it has printed, the last one last."""
        # not "**": YARN renames folders elsewhere while they are walked
        pattern = "data/*/*/*-logDir-*/application_*/container_*_000001/stdout"
        logs = sorted(self.folder.glob(pattern), key=lambda path: path.stat().st_mtime)
        return [(path.parent.name, as_on_terminal(path.read_text())) for path in logs]

    def kill(self, container: str) -> None:
        """Kill the processes of a container, as the kernel does."""
        for process in psutil.process_iter(["environ"]):
            if (process.info["environ"] or {}).get("CONTAINER_ID") == container:
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def node(self, container: str) -> Any:
        """The node manager of a container."""
        nodes = [self.yarn.getNodeManager(index) for index in range(2)]
        [node] = [node for node in nodes if container in node.getNMContext().getContainers().toString()]
        return node


def write_site(path: Path, values: dict[str, str]) -> None:
    root = ElementTree.Element("configuration")
    for name, value in values.items():
        entry = ElementTree.SubElement(root, "property")
        ElementTree.SubElement(entry, "name").text = name
        ElementTree.SubElement(entry, "value").text = value
    ElementTree.ElementTree(root).write(path)


@pytest.fixture(scope="session")
def hadoop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hadoop]:
    cluster = Hadoop(tmp_path_factory.mktemp("hadoop"))
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def data(hadoop: Hadoop, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sample in HDFS."""
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, ROWS)
    hadoop.upload(folder, "/data")
    return f"{hadoop.url}/data"
