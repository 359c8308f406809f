"""What `.venv/bin/spark-submit` does: start Spark with all it needs, and stop it in order.

Run by conf/spark-submit with the environment's Python, without what a user's PYTHON… variables say.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from jobs.java import JavaError, choose_java, find_host, speak_utf8
from jobs.temporary import enter_folder

DEFAULTS = ROOT / "conf/spark-defaults.conf"
LOGGING = ROOT / "conf/log4j2.properties"


def prepare(environment: MutableMapping[str, str], arguments: list[str]) -> list[str]:
    """Set what Spark's JVM is started with.

    The project's settings of Spark and of its log apply, and over them those of a user's ``SPARK_CONF_DIR`` and
    ``--properties-file``.

    Args:
        environment: of the JVM.
        arguments: of ``spark-submit``.

    Returns:
        The options of ``spark-submit`` that come before the arguments.

    Raises:
        JavaError: there is no Java that Spark runs on.
    """
    pyspark = find_spec("pyspark")
    assert pyspark is not None
    assert pyspark.origin is not None
    environment["SPARK_HOME"] = str(Path(pyspark.origin).parent)
    environment["PYSPARK_DRIVER_PYTHON"] = sys.executable
    environment.setdefault("PYSPARK_PYTHON", sys.executable)
    choose_java(environment)
    speak_utf8(environment)
    # of the Java that only puts Spark's command line together
    environment.setdefault("SPARK_LAUNCHER_OPTS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")

    # a job that submits another one hands on what is set here
    empty = Path(sys.prefix, "share/spark-conf")
    own = Path(environment.get("SPARK_CONF_DIR") or empty)
    if not (own.is_dir() and any(own.iterdir())):
        own = empty
    given = _option(arguments, "--properties-file")
    theirs = read_properties(Path(given) if given else own / DEFAULTS.name)
    options = [word for name, value in read_properties(DEFAULTS).items() if name not in theirs
               for word in ("--conf", f"{name}={value}")]  # fmt: skip
    master = _option(arguments, "--master") or _conf(arguments, "spark.master") or theirs.get("spark.master", "local")
    if master.split("[")[0] == "local":
        find_host(environment)

    java = []
    # Java takes Spark's classes, loaded and verified, from the archive that `make setup` has made, which saves a job
    # some three seconds; but not where a folder with files in it is on the class path, as Spark's is.
    archive = Path(sys.prefix, "spark.jsa")
    if own == empty:
        with suppress(OSError):
            empty.mkdir(parents=True, exist_ok=True)
        if archive.exists() and ":" not in str(archive):  # which parts two archives
            java += [f"-XX:SharedArchiveFile={archive}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
    environment["SPARK_CONF_DIR"] = str(own)
    if not any(own.glob("log4j2*")):
        java.append(f"-Dlog4j2.configurationFile={LOGGING.as_uri()}")
    temporary = environment.get("TMPDIR")
    if temporary and "," not in temporary:  # which parts two folders of Spark's
        java.append(f"-Djava.io.tmpdir={temporary}")
    # before the user's, which come over them
    environment["SPARK_SUBMIT_OPTS"] = " ".join([*map(_quoted, java), environment.get("SPARK_SUBMIT_OPTS", "")])
    return options


def read_properties(file: Path) -> dict[str, str]:
    """The settings of a ``spark-defaults.conf``; without the file there are none."""
    if not file.is_file():
        return {}
    text = re.sub(r"\\\r?\n\s*", "", file.read_text(errors="replace"))
    lines = (line.strip() for line in text.splitlines())
    pairs = (re.split(r"\s*[=:\s]\s*", line, maxsplit=1) for line in lines if line and line[0] not in "#!")
    return {pair[0]: pair[1] if len(pair) > 1 else "" for pair in pairs}


def _option(arguments: list[str], name: str) -> str | None:
    """What an option of ``spark-submit`` is set to last."""
    found = None
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if word == name:
            found = following
        elif word.startswith(f"{name}="):
            found = word.partition("=")[2]
        elif word.endswith(".py"):
            break
    return found


def _conf(arguments: list[str], name: str) -> str | None:
    found = [word for word in arguments if word.removeprefix("--conf=").startswith(f"{name}=")]
    return found[-1].removeprefix("--conf=").partition("=")[2] if found else None


def _quoted(word: str) -> str:
    """As Spark's launcher takes options apart."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def main() -> int:
    arguments = sys.argv[1:]
    try:
        _, lock = enter_folder()
        options = prepare(os.environ, arguments)
    except (JavaError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    # Ctrl-C reaches the job by itself; it would end Spark's JVM at once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    command = [f"{os.environ['SPARK_HOME']}/bin/spark-submit", *options, *arguments]
    # the JVM keeps the lock, too: it may live longer than this process
    jvm = subprocess.Popen(command, pass_fds=[lock] if lock is not None else [])

    def stop(number: int, _: object) -> None:
        """Of a SIGTERM, which would end Spark's JVM at once, the job hears first: it puts things in order while it
        still can. If there is none yet, there is nothing to be put in order."""
        job = _job(jvm.pid)
        if number == signal.SIGTERM or job is None:
            with suppress(ProcessLookupError):
                os.kill(job or jvm.pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    status = jvm.wait()
    return status if status >= 0 else 128 - status


def _job(jvm: int) -> int | None:
    """The process of the Python job: the JVM's child that runs a script."""
    for children in Path("/proc", str(jvm), "task").glob("*/children"):
        with suppress(OSError):
            for child in children.read_text().split():
                words = Path("/proc", child, "cmdline").read_bytes().split(b"\0")
                if any(word.endswith(b".py") for word in words):
                    return int(child)
    return None


if __name__ == "__main__":
    sys.exit(main())
