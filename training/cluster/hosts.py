"""The hosts of a Spark cluster: their task slots, checks of their folders and packages, and lost executors."""

import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.sql import SparkSession

from models.errors import TrainingError
from preprocessing.java import reason

# The first executors of a cluster may take this long to register, and so may the replacement of a lost one.
SLOT_PATIENCE_SECONDS = 20

# Most connections to a lost host fail at once. Those that have not failed after this time are shut down.
SHUTDOWN_DELAY_SECONDS = 5

# Packages that must match because processes and the driver exchange pickled objects or read the same files.
SHARED_PACKAGES = ("cloudpickle", "horovod", "keras", "numpy", "pandas", "petastorm", "pyarrow", "pyspark")
TENSORFLOW = ("tensorflow", "tensorflow-cpu")


def is_local(spark: SparkSession) -> bool:
    """Whether the driver and the executors are one process. With ``local-cluster`` they are not."""
    return str(spark.sparkContext.master).split("[")[0] == "local"


def task_slots(spark: SparkSession) -> tuple[int, int]:
    """The number of free task slots and the total number of task slots."""
    executors = _executors(spark, alive=True)
    total = sum(executor.maxTasks() for executor in executors)
    return total - sum(executor.activeTasks() for executor in executors), total


def _executors(spark: SparkSession, alive: bool) -> list[Any]:
    context: Any = spark.sparkContext
    executors = context._jsc.sc().statusStore().executorList(alive)
    return [executors.apply(i) for i in range(executors.size())]


def check_slots(spark: SparkSession, num_proc: int, option: str = "--num-proc") -> None:
    """Check that ``num_proc`` tasks can run at the same time, as Horovod's processes must.

    Args:
        spark: the session.
        num_proc: the number of processes.
        option: the option that sets this number. The error message names it.

    Raises:
        TrainingError: the cluster has fewer free task slots. The message has both numbers.
    """
    free, total = wait_for_slots(spark, num_proc)
    if free < num_proc:
        raise TrainingError(
            f"{option} {num_proc} needs {num_proc} task slots at the same time, {spark.sparkContext.master} has"
            f" {free} free of {total}: lower {option}, or give Spark more cores"
        )


def wait_for_slots(spark: SparkSession, wanted: int) -> tuple[int, int]:
    """Wait until ``wanted`` task slots are free, for ``SLOT_PATIENCE_SECONDS`` at most.

    With dynamic allocation Spark starts executors only when tasks wait for them. It is then assumed that all wanted
    slots are available, and Horovod's start timeout is the limit. A local master runs no tasks of other jobs.

    Returns:
        The same as :func:`task_slots`.
    """
    if is_local(spark):
        total = task_slots(spark)[1]
        return total, total
    if spark.conf.get("spark.dynamicAllocation.enabled", "false") == "true":
        return wanted, wanted
    deadline = time.monotonic() + SLOT_PATIENCE_SECONDS
    while True:
        free, total = task_slots(spark)
        if free >= wanted or time.monotonic() >= deadline:
            return free, total
        time.sleep(0.5)


def _all_slots(spark: SparkSession) -> int:
    """The total number of task slots, once it has stopped growing: executors may register seconds after the first."""
    previous_slots = 0
    while (slots := max(1, wait_for_slots(spark, 1)[1])) != previous_slots:
        previous_slots = slots
        time.sleep(2)
    return slots


def network_interfaces(spark: SparkSession) -> set[str] | None:
    """The driver's network interface that executors connect to. None: executors are in the driver, or it is unknown.

    Without it, processes on a single host would choose the loopback interface and not reach a driver on another host.
    """
    if is_local(spark):
        return None
    address = socket.gethostbyname(str(spark.conf.get("spark.driver.host")))
    for name, addresses in psutil.net_if_addrs().items():
        if any(interface_address.address == address for interface_address in addresses):
            return {name}
    return None


@dataclass(frozen=True)
class _Host:
    """The result of the checks of one task on its host."""

    name: str
    unreadable: list[str]
    unwritable: list[str]
    versions: dict[str, str]


def check_hosts(spark: SparkSession, readable: list[str], writable: list[str]) -> None:
    """Check that every host of a cluster has access to the folders of a job and the same packages as the driver.

    Only folders with the scheme ``file:`` are checked. Other file systems are shared by all hosts.

    Args:
        spark: the session.
        readable: absolute paths of folders that every host must be able to read.
        writable: absolute paths of folders that the driver has just created. A host that cannot write to them does not
            share the file system: it has another folder with this path, or none.

    Raises:
        TrainingError: a host fails a check. The message names the host and the folder or package.
    """
    if is_local(spark):
        return
    local_readable, local_writable = (
        [path.removeprefix("file://") for path in paths if path.startswith("file:")] for paths in (readable, writable)
    )
    # A folder that does not exist on the driver either is another error, which is raised when the folder is read.
    local_readable = [path for path in local_readable if Path(path).exists()]
    slots = _all_slots(spark)

    def check_host(_: Iterable[int]) -> Iterable[_Host]:
        yield _Host(
            _host_name(),
            [path for path in local_readable if not os.access(path, os.R_OK)],
            [path for path in local_writable if not _can_write(path)],
            _package_versions(),
        )

    try:
        hosts = spark.sparkContext.parallelize(range(slots), slots).mapPartitions(check_host).collect()
    except Py4JJavaError as error:
        raise TrainingError(f"the executors cannot run this job: {reason(error)}") from error
    driver_versions = _package_versions()
    for host in sorted(hosts, key=lambda host: host.name):
        for path in host.unwritable:
            raise TrainingError(
                f"{path}: host {host.name} cannot write there; --store and --run must be folders that all hosts share"
            )
        for path in host.unreadable:
            raise TrainingError(f"{path}: host {host.name} cannot read it; all hosts must have it at the same path")
        for package in sorted(set(driver_versions) | set(host.versions)):
            if driver_versions.get(package) != host.versions.get(package):
                raise TrainingError(
                    f"host {host.name} has {package} {host.versions.get(package, '(not installed)')}, the driver"
                    f" {driver_versions.get(package, '(not installed)')}: all hosts must have the driver's packages"
                )


def _host_name() -> str:
    """The name of this host, and its address in the network if it has one."""
    name = socket.gethostname()
    with suppress(OSError, UnicodeError):
        return f"{name} ({socket.gethostbyname(name)})"
    return name


def _can_write(path: str) -> bool:
    file = Path(path) / f".{uuid.uuid4().hex}"
    try:
        file.touch()
        file.unlink()
    except OSError:
        return False
    return True


def _package_versions() -> dict[str, str]:
    versions = {"Python": ".".join(map(str, sys.version_info[:2]))}
    for package in SHARED_PACKAGES + TENSORFLOW:
        try:
            name = "tensorflow" if package in TENSORFLOW else package
            versions[name] = version(package)
        except PackageNotFoundError:
            continue
    return versions


class ExecutorMonitor:
    """Detects executors that are lost after its creation.

    In a ``with`` block it shuts down the driver's connections to a lost host, some seconds after Spark has removed the
    host. Otherwise Horovod would wait forever for the answer of a host that disappeared without closing them.
    """

    def __init__(self, spark: SparkSession) -> None:
        self.spark = spark
        self.previously_dead = {executor.id() for executor in self._dead()}
        self.ended = threading.Event()

    def __enter__(self) -> "ExecutorMonitor":
        threading.Thread(target=self._shut_lost_connections, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()

    def _shut_lost_connections(self) -> None:
        with suppress(Py4JError):  # Spark has ended
            while not self.ended.wait(2):
                alive = {_host(executor) for executor in _executors(self.spark, alive=True)}
                lost = {_host(executor) for executor in self._lost()} - alive
                if lost and not self.ended.wait(SHUTDOWN_DELAY_SECONDS):
                    _shut_connections(lost)

    def _dead(self) -> list[Any]:
        return [executor for executor in _executors(self.spark, alive=False) if not executor.isActive()]

    def _lost(self) -> list[Any]:
        dead = [executor for executor in self._dead() if executor.id() not in self.previously_dead]
        return [executor for executor in dead if not _was_released(executor)]

    def lost(self) -> list[str]:
        """The host of each lost executor, with Spark's reason in parentheses if it gives one."""
        removals = [(_host(executor), executor.removeReason()) for executor in self._lost()]
        reasons = [(host, reason.get().strip().rstrip(".") if reason.isDefined() else "") for host, reason in removals]
        return [f"{host} ({reason})" if reason else host for host, reason in reasons]

    def wait(self, seconds: float) -> list[str]:
        """Wait up to ``seconds`` for a lost executor, since Spark may detect a loss after Horovod does.

        Returns:
            The same as :meth:`lost`.
        """
        deadline = time.monotonic() + seconds
        while not (lost := self.lost()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return lost


def _was_released(executor: Any) -> bool:
    """Whether the driver itself removed the executor, as dynamic allocation does when one is idle."""
    reason = executor.removeReason()
    return bool(reason.isDefined() and "killed by driver" in reason.get())


def _host(executor: Any) -> str:
    return str(executor.hostPort()).rsplit(":", 1)[0]


def _shut_connections(hosts: set[str]) -> None:
    """Shut down the connections of this process to the given hosts, so that blocked reads from them end."""
    addresses = set()
    for host in hosts:
        with suppress(OSError):  # the name of a lost host may no longer resolve
            addresses.add(socket.gethostbyname(host))
    for connection in psutil.Process().net_connections("tcp4"):
        if connection.raddr and connection.raddr.ip in addresses and connection.fd >= 0:
            with suppress(OSError), socket.socket(fileno=os.dup(connection.fd)) as duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)
