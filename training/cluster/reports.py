"""Reports from executors to the driver: rank 0 reports each epoch, and a trial asks whether it should be pruned.

The printed output of a Horovod process reaches the driver only in blocks of 64 kB, or when the process ends.
"""

import functools
import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.managers import BaseManager
from queue import SimpleQueue
from typing import Any

from pyspark.sql import SparkSession

from training.training_settings import Metric

LOGGER = logging.getLogger("handshape")


class _Receiver:
    """An object on the driver that executors can call until ``target`` is None."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def report(self, *arguments: Any) -> None:
        if self.target is not None:
            self.target.report(*arguments)

    def should_prune(self) -> bool:
        return self.target is not None and bool(self.target.should_prune())


# The objects that executors can call now, by number.
_receivers: dict[int, _Receiver] = {}
_numbers = itertools.count()
_server_lock = threading.Lock()


class _Receivers(BaseManager):
    """Calls objects on the driver from other processes. Clients without the key are rejected."""


_Receivers.register("get")


@dataclass(frozen=True)
class ReceiverAddress:
    """The address of an object on the driver.

    Args:
        host: the driver's host name or IP address.
        port: the port.
        key: the secret key of the connection.
        number: the number of the object.
    """

    host: str
    port: int
    key: bytes
    number: int

    def connect(self) -> Any:
        """Return a proxy of the object, with its methods ``report`` and ``should_prune``.

        Raises:
            OSError: the driver cannot be reached.
            multiprocessing.AuthenticationError: the key is wrong.
            multiprocessing.managers.RemoteError: the object is no longer available.
        """
        manager = _Receivers((self.host, self.port), self.key)
        manager.connect()
        return manager.get(self.number)  # type: ignore[attr-defined]


@contextmanager
def receiving(spark: SparkSession, target: Any) -> Iterator[ReceiverAddress]:
    """Let executors call ``target.report`` and ``target.should_prune`` within the block. Yields its address."""
    with _server_lock:
        port, key = _server()
    number = next(_numbers)
    _receivers[number] = _Receiver(target)
    # Executors already reach the driver by this host name.
    host: Any = spark.conf.get("spark.driver.host")
    try:
        yield ReceiverAddress(host, port, key, number)
    finally:
        # A process that was killed never releases its reference to the receiver.
        _receivers.pop(number).target = None


class _Queue(SimpleQueue[Any]):
    report = SimpleQueue.put


@contextmanager
def listening(spark: SparkSession, on_message: Callable[[dict[str, Any]], None]) -> Iterator[ReceiverAddress]:
    """Call ``on_message`` with each message, in a thread of its own, as rank 0 must not wait for it.

    Yields the address for :class:`EpochReporter`. At the end of the block all messages have been handled.
    """
    queue = _Queue()

    def handle() -> None:
        for message in iter(queue.get, None):
            on_message(message)

    thread = threading.Thread(target=handle, daemon=True)
    thread.start()
    try:
        with receiving(spark, queue) as address:
            yield address
    finally:
        queue.put(None)
        thread.join()


@functools.cache
def _server() -> tuple[int, bytes]:
    """Start a server, one for the lifetime of the driver since Python cannot stop it; return its port and its key."""

    class Server(_Receivers):
        pass

    Server.register("get", callable=_receivers.__getitem__, exposed=("report", "should_prune"))
    key = os.urandom(32)
    server: Any = Server(("", 0), key).get_server()

    def serve() -> None:
        with suppress(SystemExit):  # the server ends its thread with it
            server.serve_forever()

    threading.Thread(target=serve, daemon=True).start()
    return server.address[1], key


class EpochReporter:
    """Reports from rank 0 to the driver. Training continues without reports if the driver cannot be reached.

    Args:
        address: the address from :func:`listening`.
    """

    def __init__(self, address: ReceiverAddress) -> None:
        try:
            self.receiver: Any = address.connect()
        except Exception as error:  # whatever it is, training is more important
            LOGGER.warning(f"cannot report epochs to the driver: {address.host}:{address.port}: {error}")
            self.receiver = None

    def report(self, message: dict[str, Any]) -> None:
        """Send a message, unless the connection was lost."""
        if self.receiver is None:
            return
        try:
            self.receiver.report(message)
        except Exception as error:
            LOGGER.warning(f"cannot report epochs to the driver any more: {error}")
            self.receiver = None


@dataclass(frozen=True)
class TrialReporter:
    """Reports from the process that trains a trial.

    Args:
        address: the address of the ``optuna.Trial``.
        metric: the metric that is reported.
        reports: the total number of epochs or folds. The trial is not pruned after the last one.
    """

    address: ReceiverAddress
    metric: Metric
    reports: int

    def report(self, row: dict[str, Any]) -> bool:
        """Report the metric of an epoch or fold.

        If the driver cannot be reached the trial fails, since the study is on the driver.

        Args:
            row: ``epoch``, the number of the epoch or fold, and the metric.

        Returns:
            Whether the trial should be pruned.
        """
        trial = self.address.connect()
        trial.report(row[self.metric], row["epoch"])
        return bool(trial.should_prune()) and row["epoch"] < self.reports
