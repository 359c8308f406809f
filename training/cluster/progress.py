"""Progress reports from rank 0, which may run on any host, to the driver.

The printed output of a Horovod process reaches the driver only in blocks of 64 kB, or when the process ends.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

from pyspark.sql import SparkSession

Message = dict[str, Any]
Address = tuple[str, int, bytes]


@contextmanager
def epoch_listener(spark: SparkSession, on_message: Callable[[Message], None]) -> Iterator[Address]:
    """Listen on the driver and call ``on_message`` with each message. Yields the address for :class:`EpochReporter`."""
    key = os.urandom(32)
    with Listener(("", 0), authkey=key) as listener:

        def listen() -> None:
            with listener.accept() as connection:
                while True:
                    on_message(json.loads(connection.recv_bytes()))

        def listen_until_closed() -> None:
            try:
                listen()
            except (EOFError, OSError):
                return  # rank 0 has ended, or never connected

        threading.Thread(target=listen_until_closed, daemon=True).start()
        # Executors already reach the driver by this host name.
        yield spark.conf.get("spark.driver.host"), listener.address[1], key  # type: ignore[misc]


class EpochReporter:
    """Sends messages from rank 0 to the driver. Training continues without reports if the driver cannot be reached.

    Args:
        address: the address from :func:`epoch_listener`.
    """

    def __init__(self, address: Address) -> None:
        host, port, key = address
        try:
            self.connection: Connection | None = Client((host, port), authkey=key)
        except OSError as error:
            print(f"cannot report epochs to the driver: {host}:{port}: {error}", flush=True)
            self.connection = None

    def report(self, message: Message) -> None:
        """Send a message, unless the connection was lost."""
        if self.connection is None:
            return
        try:
            self.connection.send_bytes(json.dumps(message).encode())
        except OSError as error:
            print(f"cannot report epochs to the driver any more: {error}", flush=True)
            self.connection = None
