"""What Java says of a failure, and what it cannot read."""

import re
from typing import Any

from py4j.protocol import Py4JError

from preprocessing.errors import InputError

_TRACEBACK = "Traceback (most recent call last):"
_TASK = re.compile(r"^.*[Mm]ost recent failure: (Lost task \S+ in stage \S+ \(TID \d+\) \(.*?\): )?")
_FRAME = re.compile(r"^\s+(at |\.\.\. \d+ (more|common frames))")


def reason(error: BaseException) -> str:
    """Why Spark or Java has failed, in one line that is never empty.

    Of Java's causes it is the innermost that says something, of what a Python worker raised the exception itself.
    """
    try:
        # with Java's causes; it asks the JVM, which may have gone
        text = str(error)
    except (Py4JError, OSError):
        text = ""
    text = text.partition("\n: ")[2] if text.startswith("An error occurred while calling") else text
    causes = re.split(r"^\s*Caused by: ", text, flags=re.MULTILINE)
    said = [line for line in map(_line, causes) if line]
    telling = [line for line in said if not re.fullmatch(r"[\w.$]+", line)]
    return (telling or said or [type(error).__name__])[-1]


def _line(cause: str) -> str:
    """The line of a cause that says most; empty: there is none."""
    lines = [line for line in cause.splitlines() if line.strip() and not _FRAME.match(line)]
    headers = [number for number, line in enumerate(lines) if line.rstrip().endswith(_TRACEBACK)]
    if headers:
        header = lines[headers[-1]]
        # Spark indents what a worker has printed; before a traceback it may have the name of its own exception
        depth = len(header) - len(header.lstrip())
        for line in lines[headers[-1] + 1 :]:
            if len(line) - len(line.lstrip()) <= depth:
                return line.strip()
    spoken = (_TASK.sub("", line).strip() for line in lines)
    # "Error from python worker:" comes before what it was
    return next((line for line in spoken if not line.endswith(":")), lines[0].strip().rstrip(":") if lines else "")


def check_java_reads(jvm: Any, path: str) -> None:
    """Make sure that Java can name a file or folder: under LANG=C it knows no letter beyond ASCII.

    Args:
        jvm: of the Spark session.
        path: as a user has written it.

    Raises:
        InputError: it has such a letter, and this JVM loses it.
    """
    if not path.isascii() and not reads_all_names(jvm):
        raise InputError(
            f"{path}: Java reads names in {_encoding(jvm)} here, which has not all of these letters:"
            " set LC_ALL=C.UTF-8, and start the job again"
        )


def reads_all_names(jvm: Any) -> bool:
    """Whether Java names files in UTF-8."""
    return _encoding(jvm).upper().replace("-", "") == "UTF8"


def _encoding(jvm: Any) -> str:
    return str(jvm.java.lang.System.getProperty("sun.jnu.encoding"))
