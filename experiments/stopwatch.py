"""Measurement of the time that a job and its stages take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from experiments.logs import LOGGER

_STARTED = time.monotonic()


class Stopwatch:
    """Measures the duration of each stage in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def stop(self) -> None:
        """Record the seconds since the job was started, as ``total``."""
        self.seconds["total"] = time.monotonic() - _STARTED

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start
        LOGGER.debug(f"{name} took {self.seconds[name]:.1f} s")
