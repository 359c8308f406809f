"""Epochs as they end: rank 0 tells the driver, wherever it runs.

What a Horovod process prints reaches the driver only when 64 kB have come together, or when the process ends.
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
def epoch_listener(spark: SparkSession, told: Callable[[Message], None]) -> Iterator[Address]:
    """Listen on the driver; ``told`` is called with each message. The address goes to :func:`tell`."""
    key = os.urandom(32)
    with Listener(("", 0), authkey=key) as listener:

        def listen() -> None:
            with listener.accept() as connection:
                while True:
                    told(json.loads(connection.recv_bytes()))

        def until_closed() -> None:
            try:
                listen()
            except (EOFError, OSError):
                return  # rank 0 has ended, or nobody came

        threading.Thread(target=until_closed, daemon=True).start()
        # the name under which executors already reach the driver
        yield spark.conf.get("spark.driver.host"), listener.address[1], key  # type: ignore[misc]


class Teller:
    """Rank 0's side. A driver that cannot be reached costs its lines and not the training."""

    def __init__(self, address: Address) -> None:
        host, port, key = address
        try:
            self.connection: Connection | None = Client((host, port), authkey=key)
        except OSError as error:
            print(f"the driver cannot be told of epochs: {host}:{port}: {error}", flush=True)
            self.connection = None

    def tell(self, message: Message) -> None:
        if self.connection is None:
            return
        try:
            self.connection.send_bytes(json.dumps(message).encode())
        except OSError as error:
            print(f"the driver cannot be told of epochs any more: {error}", flush=True)
            self.connection = None
