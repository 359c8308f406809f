"""The time that a job and its stages take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

_STARTED = time.monotonic()


class Stopwatch:
    """The seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def stop(self) -> None:
        """Take down the seconds since the job was started."""
        self.seconds["total"] = time.monotonic() - _STARTED

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - begin
