"""A server on the driver that receives the epochs of trials from the executors."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.managers import BaseManager
from typing import TYPE_CHECKING, Any

from pyspark.sql import SparkSession

from training.cluster.progress import Address
from training.training_settings import Metric

if TYPE_CHECKING:
    import optuna


class _Trials(BaseManager):
    """Calls the driver's trials from other processes. Clients without the key are rejected."""


@dataclass(frozen=True)
class TrialServer:
    """The trials on the driver that executors can report to.

    Args:
        address: the host, the port and the key.
        trials: the trials by number. Add a trial before it is trained.
    """

    address: Address
    trials: "dict[int, optuna.Trial]"


@contextmanager
def trial_server(spark: SparkSession) -> Iterator[TrialServer]:
    """Accept reports from executors within the block."""
    key, trials = os.urandom(32), {}  # type: ignore[var-annotated]

    class Server(_Trials):
        pass

    Server.register("trial", callable=trials.__getitem__, exposed=("report", "should_prune"))
    server: Any = Server(("", 0), key).get_server()
    threading.Thread(target=_serve, args=(server,), daemon=True).start()
    # Executors already reach the driver by this host name.
    host: Any = spark.conf.get("spark.driver.host")
    try:
        yield TrialServer((host, server.address[1], key), trials)
    finally:
        server.stop_event.set()


def _serve(server: Any) -> None:
    with suppress(SystemExit):  # the server ends its thread with it
        server.serve_forever()


_Trials.register("trial")


@dataclass(frozen=True)
class TrialAddress:
    """The address of a trial, for the process that trains it.

    Args:
        server: the host, the port and the key of the server.
        number: the number of the trial in the study.
        metric: the metric that is reported.
        reports: the total number of epochs or folds. The trial is not pruned after the last one.
    """

    server: Address
    number: int
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
        host, port, key = self.server
        manager = _Trials((host, port), key)
        manager.connect()
        trial = manager.trial(self.number)  # type: ignore[attr-defined]
        trial.report(row[self.metric], row["epoch"])
        return bool(trial.should_prune()) and row["epoch"] < self.reports
