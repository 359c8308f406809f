"""The trials of a search, which the driver has: executors report their epochs to them."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.managers import BaseManager
from typing import TYPE_CHECKING, Any

from pyspark.sql import SparkSession

from models.progress import Address
from models.settings import Metric

if TYPE_CHECKING:
    import optuna


class _Trials(BaseManager):
    """Python's own way to call the driver's trials from elsewhere; the key tells who may."""


@dataclass(frozen=True)
class TrialServer:
    """The driver's trials, as those that train them reach them.

    Args:
        address: where, with the key.
        trials: by number.
    """

    address: Address
    trials: "dict[int, optuna.Trial]"


@contextmanager
def trial_server(spark: SparkSession) -> Iterator[TrialServer]:
    """Let executors report to trials as long as the block lasts."""
    key, trials = os.urandom(32), {}  # type: ignore[var-annotated]

    class Server(_Trials):
        pass

    Server.register("trial", callable=trials.__getitem__, exposed=("report", "should_prune"))
    server: Any = Server(("", 0), key).get_server()
    threading.Thread(target=_serve, args=(server,), daemon=True).start()
    # the name under which executors already reach the driver
    host: Any = spark.conf.get("spark.driver.host")
    try:
        yield TrialServer((host, server.address[1], key), trials)
    finally:
        server.stop_event.set()


def _serve(server: Any) -> None:
    with suppress(SystemExit):  # how it ends
        server.serve_forever()


_Trials.register("trial")


@dataclass(frozen=True)
class TrialAddress:
    """A trial of the driver's, as the process that trains it reaches it.

    Args:
        server: where, with the key.
        number: Optuna's.
        metric: what it is told.
        reports: epochs, or folds, in all: after the last one nothing is saved by stopping.
    """

    server: Address
    number: int
    metric: Metric
    reports: int

    def report(self, row: dict[str, Any]) -> bool:
        """Tell the trial of an ``epoch``, or fold, and its metric. Returns whether it is to be stopped.

        A driver that cannot be reached has lost its trials: this one fails with it.
        """
        host, port, key = self.server
        manager = _Trials((host, port), key)
        manager.connect()
        trial = manager.trial(self.number)  # type: ignore[attr-defined]
        trial.report(row[self.metric], row["epoch"])
        return bool(trial.should_prune()) and row["epoch"] < self.reports
