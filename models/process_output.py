"""What Horovod's processes print, kept for the case that one fails."""

import collections
import io
import re

# Horovod names the process before each of its lines.
_PREFIX = re.compile(r"^\[\d+\]<\w+>:")
# What Horovod says of a process that ended without an error of its own, killed by a kernel out of memory for one.
EXITED = re.compile(r"Exit code: (\S+)")
_ERROR = re.compile(r"[\w.]+(Error|Exception)\b")
# What the other processes say when one has failed.
_CONSEQUENCE = re.compile(r"Graph execution error|Horovod")


class LastLines(io.TextIOBase):
    """The last lines of what the processes print, and the errors among all of them, for the case that one fails."""

    def __init__(self) -> None:
        self.lines: collections.deque[str] = collections.deque(maxlen=20)
        self.named: collections.deque[str] = collections.deque(maxlen=20)
        self.pending = ""

    def write(self, text: str) -> int:
        *lines, self.pending = (self.pending + text).split("\n")
        for line in (_PREFIX.sub("", line) for line in lines):
            self.lines.append(line)
            if _ERROR.match(line) and not _CONSEQUENCE.search(line):
                self.named.append(line)
        return len(text)
