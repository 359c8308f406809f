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
from typing import Any

import psutil
from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.sql import SparkSession

from models.errors import TrainingError
from preprocessing.file_systems import local_path, open_url
from preprocessing.java import reason

# The first executors of a cluster may take this long to register, and so may the replacement of a lost one.
SLOT_PATIENCE_SECONDS = 20

# The containers of all executors may take this long on a cluster that has the resources.
GRANT_SECONDS = 120

# Most connections to a lost host fail at once. Those that have not failed after this time are shut down.
SHUTDOWN_DELAY_SECONDS = 5

# Packages that must match because processes and the driver exchange pickled objects or read the same files.
SHARED_PACKAGES = ("cloudpickle", "horovod", "keras", "numpy", "pandas", "petastorm", "pyarrow", "pyspark")
TENSORFLOW = ("tensorflow", "tensorflow-cpu", "tensorflow-cpu-aws")


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

    While executors that were asked for are missing, it waits for ``GRANT_SECONDS``, because YARN grants containers one
    after the other. With dynamic allocation, executors are asked for here. A local master runs no tasks of other jobs.

    Returns:
        The same as :func:`task_slots`.
    """
    if is_local(spark):
        total = task_slots(spark)[1]
        return total, total
    begin = time.monotonic()
    if spark.conf.get("spark.dynamicAllocation.enabled", "false") == "true":
        _request_executors(spark, wanted)
    while True:
        free, total = task_slots(spark)
        patience = GRANT_SECONDS if _awaits_executors(spark) else SLOT_PATIENCE_SECONDS
        if free >= wanted or time.monotonic() - begin >= patience:
            return free, total
        time.sleep(0.5)


def _awaits_executors(spark: SparkSession) -> bool:
    """Whether executors of a fixed number are still missing. On other masters than YARN their number is not fixed."""
    if str(spark.sparkContext.master) != "yarn":
        return False
    expected = int(spark.conf.get("spark.executor.instances", None) or 0)
    return len(_executors(spark, alive=True)) - 1 < expected  # the driver is in this list, too


def _request_executors(spark: SparkSession, slots: int) -> None:
    """Run tasks until there are ``slots`` task slots, for ``GRANT_SECONDS`` at most.

    With dynamic allocation, Spark asks for executors while tasks wait for a slot.
    """
    context = spark.sparkContext
    timer = threading.Timer(GRANT_SECONDS, context.cancelAllJobs)
    timer.start()
    try:
        with suppress(Py4JJavaError):  # canceled by the timer
            while timer.is_alive() and task_slots(spark)[1] < slots:
                context.parallelize(range(slots), slots).foreachPartition(_occupy)
    finally:
        timer.cancel()


def _occupy(_: Iterable[int]) -> None:
    time.sleep(2)  # tasks that wait for a second make Spark ask for executors


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
    """The result of the checks of one task on its host.

    Args:
        name: name of the host.
        unreadable: folders that it cannot read.
        unwritable: folders that it cannot write, with the reasons.
        versions: versions of its packages.
    """

    name: str
    unreadable: list[str]
    unwritable: dict[str, str]
    versions: dict[str, str]


def check_hosts(spark: SparkSession, readable: list[str], writable: list[str]) -> None:
    """Check that every host of a cluster has access to the folders of a job and the same packages as the driver.

    Args:
        spark: the session.
        readable: absolute paths of folders that every host must be able to read. Only those with the scheme ``file:``
            are checked, because Java reads the others.
        writable: absolute paths of folders that the driver has just created. A host that cannot write to a local one
            does not share the file system: it has another folder with this path, or none.

    Raises:
        TrainingError: a host fails a check. The message names the host and the folder or package.
    """
    # A folder that does not exist on the driver either is another error, which is raised when the folder is read.
    readable = [path for path in readable if path.startswith("file:") and local_path(path).exists()]
    if is_local(spark):
        readable, writable = [], [path for path in writable if not path.startswith("file:")]

    def check_host(_: Iterable[int]) -> Iterable[_Host]:
        problems = {path: _write_problem(path) for path in writable}
        yield _Host(
            _host_name(),
            [path for path in readable if not os.access(local_path(path), os.R_OK)],
            {path: problem for path, problem in problems.items() if problem},
            _package_versions(),
        )

    if is_local(spark):
        hosts = list(check_host([0]))
    else:
        slots = _all_slots(spark)
        try:
            hosts = spark.sparkContext.parallelize(range(slots), slots).mapPartitions(check_host).collect()
        except Py4JJavaError as error:
            raise TrainingError(f"the executors cannot run this job: {reason(error)}") from error
    driver_versions = _package_versions()
    for host in sorted(hosts, key=lambda host: host.name):
        for url, problem in host.unwritable.items():
            path = url.removeprefix("file://")
            shared = "; --store and --run must be folders that all hosts share" if path != url else ""
            raise TrainingError(f"{path}: host {host.name} cannot write there: {problem}{shared}")
        for path in host.unreadable:
            name = path.removeprefix("file://")
            raise TrainingError(f"{name}: host {host.name} cannot read it; all hosts must have it at the same path")
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


def _write_problem(url: str) -> str | None:
    """Why this process cannot create files in a folder that exists. None: it can."""
    try:
        system, folder = open_url(url)
        file = f"{folder}/.{uuid.uuid4().hex}"
        system.pipe_file(file, b"")
        system.rm_file(file)
    except Exception as error:  # each file system has its own
        message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return (message.strip().splitlines() or [type(error).__name__])[0]
    return None


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
        # YARN adds several lines of diagnostics
        reasons = [
            (host, reason.get().partition(" Diagnostics:")[0].strip().rstrip(".") if reason.isDefined() else "")
            for host, reason in removals
        ]
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
