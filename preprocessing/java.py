"""The reasons that Java gives for failures, and the file names that it cannot read."""

import re
from typing import Any

from py4j.protocol import Py4JError

from preprocessing.errors import InputError

_TRACEBACK = "Traceback (most recent call last):"
_TASK = re.compile(r"^.*[Mm]ost recent failure: (Lost task \S+ in stage \S+ \(TID \d+\) \(.*?\): )?")
# What AWS's client writes around the message of S3: its class, the request's identifiers.
_AWS = re.compile(r"^com\.amazonaws\.\S+: | \(Service: .*$")
_FRAME = re.compile(r"^\s+(at |\.\.\. \d+ (more|common frames))")


def reason(error: BaseException) -> str:
    """The reason for a failure of Spark or Java, in one line that is never empty.

    It is the innermost of Java's causes that has a message, or the exception that a Python worker raised.
    """
    try:
        # This includes Java's causes. It asks the JVM, which may have ended.
        message = str(error)
    except (Py4JError, OSError):
        message = ""
    message = message.partition("\n: ")[2] if message.startswith("An error occurred while calling") else message
    causes = re.split(r"^\s*Caused by: ", message, flags=re.MULTILINE)
    lines = [line for line in map(_line, causes) if line]
    with_message = [line for line in lines if not re.fullmatch(r"[\w.$]+", line)]
    return _AWS.sub("", (with_message or lines or [type(error).__name__])[-1])


def _line(cause: str) -> str:
    """The most informative line of a cause; empty if there is none."""
    lines = [line for line in cause.splitlines() if line.strip() and not _FRAME.match(line)]
    headers = [number for number, line in enumerate(lines) if line.rstrip().endswith(_TRACEBACK)]
    if headers:
        header = lines[headers[-1]]
        # Spark indents the output of a worker. Before a traceback it may print the name of its own exception.
        depth = len(header) - len(header.lstrip())
        for line in lines[headers[-1] + 1 :]:
            if len(line) - len(line.lstrip()) <= depth:
                return line.strip()
    messages = (_TASK.sub("", line).strip() for line in lines)
    # Lines such as "Error from python worker:" only introduce the message.
    return next((line for line in messages if not line.endswith(":")), lines[0].strip().rstrip(":") if lines else "")


def check_java_reads(jvm: Any, path: str) -> None:
    """Check that Java can represent the name of a file or folder: under LANG=C it can only represent ASCII.

    Args:
        jvm: JVM of the Spark session.
        path: path as the user entered it.

    Raises:
        InputError: The path has characters beyond ASCII, and this JVM does not read names as UTF-8.
    """
    if not path.isascii() and not reads_all_names(jvm):
        raise InputError(
            f"{path}: Java reads file names as {_encoding(jvm)} here, which lacks some of these characters:"
            " set LC_ALL=C.UTF-8, and restart the job"
        )


def reads_all_names(jvm: Any) -> bool:
    """Whether Java reads and writes file names as UTF-8."""
    return _encoding(jvm).upper().replace("-", "") == "UTF8"


def _encoding(jvm: Any) -> str:
    return str(jvm.java.lang.System.getProperty("sun.jnu.encoding"))
