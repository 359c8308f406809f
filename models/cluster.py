"""The hosts of a Spark cluster: what they offer, whether they can do the work, and which of them are lost."""

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

# The first executors of a cluster may take this long to report for work, and so may one that takes a lost one's place.
SLOT_PATIENCE_SECONDS = 20

# A lost host's sockets mostly say so at once; after so long, those that have not are shut.
SILENCE_SECONDS = 5

# What a process and the driver hand each other, pickled, or both read.
SHARED_PACKAGES = ("cloudpickle", "horovod", "keras", "numpy", "pandas", "petastorm", "pyarrow", "pyspark")
TENSORFLOW = ("tensorflow", "tensorflow-cpu")


def is_local(spark: SparkSession) -> bool:
    """Whether driver and executors are one process: ``local-cluster`` has others."""
    return str(spark.sparkContext.master).split("[")[0] == "local"


def task_slots(spark: SparkSession) -> tuple[int, int]:
    """How many tasks can start at once now, and how many when nothing runs."""
    executors = _executors(spark, alive=True)
    total = sum(executor.maxTasks() for executor in executors)
    return total - sum(executor.activeTasks() for executor in executors), total


def _executors(spark: SparkSession, alive: bool) -> list[Any]:
    context: Any = spark.sparkContext
    found = context._jsc.sc().statusStore().executorList(alive)
    return [found.apply(i) for i in range(found.size())]


def check_slots(spark: SparkSession, num_proc: int, option: str = "--num-proc") -> None:
    """Make sure that ``num_proc`` tasks can run at the same time, as Horovod's processes must.

    Raises:
        TrainingError: the cluster has fewer free task slots, with both numbers.
    """
    free, total = wait_for_slots(spark, num_proc)
    if free < num_proc:
        raise TrainingError(
            f"{option} {num_proc} needs {num_proc} task slots at the same time, {spark.sparkContext.master} has"
            f" {free} free of {total}: lower {option}, or give Spark more cores"
        )


def wait_for_slots(spark: SparkSession, wanted: int) -> tuple[int, int]:
    """As :func:`task_slots`, as soon as ``wanted`` are free, or when the cluster has had its time.

    With dynamic allocation executors come when tasks wait for them: as many as are wanted, and Horovod's own start
    timeout is the limit. A local master has nobody else's tasks.
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
    """The task slots of all executors, the last of which may come some seconds after the first."""
    slots = 0
    while (found := max(1, wait_for_slots(spark, 1)[1])) != slots:
        slots = found
        time.sleep(2)
    return slots


def network_interfaces(spark: SparkSession) -> set[str] | None:
    """The driver's interface that executors know it by; None where they are one process, or it cannot be told.

    Processes that are all on one host would agree on the loopback, by which they do not reach a driver on another.
    """
    if is_local(spark):
        return None
    address = socket.gethostbyname(str(spark.conf.get("spark.driver.host")))
    for name, addresses in psutil.net_if_addrs().items():
        if any(found.address == address for found in addresses):
            return {name}
    return None


@dataclass(frozen=True)
class _Host:
    """What a task finds where it runs."""

    name: str
    unreadable: list[str]
    unwritable: list[str]
    versions: dict[str, str]


def check_hosts(spark: SparkSession, readable: list[str], writable: list[str]) -> None:
    """Make sure that every host of a cluster sees the folders it has to, and has the driver's packages.

    Folders of other schemes than ``file:`` are everybody's by their nature.

    Args:
        spark: the session.
        readable: absolute paths of folders.
        writable: absolute paths of folders that the driver has just made: a host on which they are not there has
            another folder of the same name, or none.

    Raises:
        TrainingError: naming the host, and what it lacks.
    """
    if is_local(spark):
        return
    local = [
        [path.removeprefix("file://") for path in paths if path.startswith("file:")] for paths in (readable, writable)
    ]
    # what the driver does not see either is an error of another kind, which reading it will name
    seen, kept = [path for path in local[0] if Path(path).exists()], local[1]
    slots = _all_slots(spark)

    def look(_: Iterable[int]) -> Iterable[_Host]:
        yield _Host(
            _name(),
            [path for path in seen if not os.access(path, os.R_OK)],
            [path for path in kept if not _can_write(path)],
            _versions(),
        )

    try:
        hosts = spark.sparkContext.parallelize(range(slots), slots).mapPartitions(look).collect()
    except Py4JJavaError as error:
        raise TrainingError(f"the executors cannot run this job: {reason(error)}") from error
    here = _versions()
    for host in sorted(hosts, key=lambda host: host.name):
        for path in host.unwritable:
            raise TrainingError(
                f"{path}: host {host.name} cannot write there; --store and --run have to lie where every host sees them"
            )
        for path in host.unreadable:
            raise TrainingError(f"{path}: host {host.name} cannot read it; every host needs it under the same path")
        for package in sorted(set(here) | set(host.versions)):
            if here.get(package) != host.versions.get(package):
                raise TrainingError(
                    f"host {host.name} has {package} {host.versions.get(package, 'not at all')}, the driver"
                    f" {here.get(package, 'not at all')}: every host needs the driver's packages"
                )


def _name() -> str:
    """This host's name, with the address by which others know it, if it has one."""
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


def _versions() -> dict[str, str]:
    found = {"Python": ".".join(map(str, sys.version_info[:2]))}
    for package in SHARED_PACKAGES + TENSORFLOW:
        try:
            name = "tensorflow" if package in TENSORFLOW else package
            found[name] = version(package)
        except PackageNotFoundError:
            continue
    return found


class ExecutorWatch:
    """Which executors are lost from now on.

    In a ``with`` block the driver's connections to a lost host are shut, some seconds after Spark has given it up: who
    waits for an answer from a host that has gone without a word would wait for ever, as Horovod does.
    """

    def __init__(self, spark: SparkSession) -> None:
        self.spark = spark
        self.before = {executor.id() for executor in self._dead()}
        self.ended = threading.Event()

    def __enter__(self) -> "ExecutorWatch":
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()

    def _watch(self) -> None:
        with suppress(Py4JError):  # Spark has ended
            while not self.ended.wait(2):
                alive = {_host(executor) for executor in _executors(self.spark, alive=True)}
                hosts = {_host(executor) for executor in self._lost()} - alive
                if hosts and not self.ended.wait(SILENCE_SECONDS):
                    _shut_connections(hosts)

    def _dead(self) -> list[Any]:
        return [executor for executor in _executors(self.spark, alive=False) if not executor.isActive()]

    def _lost(self) -> list[Any]:
        return [executor for executor in self._dead() if executor.id() not in self.before and not _let_go(executor)]

    def lost(self) -> list[str]:
        """The host of each, and Spark's word on why, where it has one."""
        found = [(_host(executor), executor.removeReason()) for executor in self._lost()]
        reasons = [(host, reason.get().strip().rstrip(".") if reason.isDefined() else "") for host, reason in found]
        return [f"{host} ({reason})" if reason else host for host, reason in reasons]

    def wait(self, seconds: float) -> list[str]:
        """As :meth:`lost`, as soon as there is one, or after so many seconds: Spark may learn of it after Horovod."""
        deadline = time.monotonic() + seconds
        while not (lost := self.lost()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return lost


def _let_go(executor: Any) -> bool:
    """Whether the driver itself gave it back, as dynamic allocation does with idle ones."""
    reason = executor.removeReason()
    return bool(reason.isDefined() and "killed by driver" in reason.get())


def _host(executor: Any) -> str:
    return str(executor.hostPort()).rsplit(":", 1)[0]


def _shut_connections(hosts: set[str]) -> None:
    """Shut this process's connections to hosts, so that who reads from them learns that nothing will come."""
    addresses = set()
    for host in hosts:
        with suppress(OSError):  # its name may have gone with it
            addresses.add(socket.gethostbyname(host))
    for connection in psutil.Process().net_connections("tcp4"):
        if connection.raddr and connection.raddr.ip in addresses and connection.fd >= 0:
            with suppress(OSError), socket.socket(fileno=os.dup(connection.fd)) as known:
                known.shutdown(socket.SHUT_RDWR)
