"""Measurement of the time that a job and its stages take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from experiments.logs import LOGGER

_STARTED = time.monotonic()


class Stopwatch:
    """Measures the duration of each stage in seconds.

    Args:
        started: time at which the total begins, of ``time.monotonic()``. By default, it is the start of the job.
    """

    def __init__(self, started: float = _STARTED) -> None:
        self.started = started
        self.seconds: dict[str, float] = {}

    def stop(self) -> None:
        """Record the seconds since the start, as ``total``."""
        self.seconds["total"] = time.monotonic() - self.started

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start
        LOGGER.debug(f"{name} took {self.seconds[name]:.1f} s")
