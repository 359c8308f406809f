"""The messages of a job: one logger, ``handshape``, whose lines have a time and a level in the logs of a cluster."""

import logging
import os
import sys
import time
from typing import Never

LOGGER = logging.getLogger("handshape")
# Not empty if the output of spark-submit is a terminal: the output of the job itself is always a pipe to Spark's JVM.
TERMINAL = "HANDSHAPE_TERMINAL"


class _ConsoleHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes warnings and errors to the standard error, and everything else to the standard output.

    A terminal shows the message, with its level if it is a warning or an error. In a file or a pipe, each line begins
    with the local time and the level.
    """

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        level = record.levelname.lower()
        message = super().format(record)
        if self.stream.isatty() or os.environ.get(TERMINAL):
            return f"{level}: {message}" if record.levelno >= logging.WARNING else message
        prefix = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(record.created))} {level}: "
        return "\n".join(prefix + line for line in message.split("\n"))

    def handleError(self, record: logging.LogRecord) -> Never:  # noqa: N802
        """Raise the error of a full disk or a closed pipe, which ends the job, instead of printing its traceback."""
        raise


def configure_logging(verbose: bool = False) -> None:
    """Show the messages of the project, those of level INFO and above, or with ``verbose`` all of them."""
    if not LOGGER.handlers:
        LOGGER.addHandler(_ConsoleHandler())
        LOGGER.propagate = False  # libraries add handlers to the root logger
        LOGGER.setLevel(logging.INFO)
    if verbose:
        LOGGER.setLevel(logging.DEBUG)
