"""The last output of Horovod's processes, kept for error messages."""

import collections
import io
import logging
import re

LOGGER = logging.getLogger("handshape")

# Horovod prefixes each line with the rank and stream of its process.
_PREFIX = re.compile(r"^\[\d+\]<\w+>:")
# Horovod's message on a process that ended without a Python error, for example killed by the kernel's out-of-memory
# killer.
EXITED = re.compile(r"Exit code: (\S+)")
_ERROR = re.compile(r"[\w.]+(Error|Exception)\b")
# Errors that the other processes print when one has failed.
_CONSEQUENCE = re.compile(r"Graph execution error|Horovod")


class LastLines(io.TextIOBase):
    """A stream that keeps its last 20 ``lines`` and the last 20 ``error_lines``, those that name a Python exception."""

    def __init__(self) -> None:
        self.lines: collections.deque[str] = collections.deque(maxlen=20)
        self.error_lines: collections.deque[str] = collections.deque(maxlen=20)
        self.incomplete = ""

    def write(self, text: str) -> int:
        *lines, self.incomplete = (self.incomplete + text).split("\n")
        for prefixed_line in lines:
            LOGGER.debug(prefixed_line)
            line = _PREFIX.sub("", prefixed_line)
            self.lines.append(line)
            if _ERROR.match(line) and not _CONSEQUENCE.search(line):
                self.error_lines.append(line)
        return len(text)
