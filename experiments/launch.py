"""The implementation of `.venv/bin/spark-submit`: starts Spark with the settings it needs, and shuts it down cleanly.

conf/spark-submit runs it with the environment's Python and ignores the user's PYTHON… variables.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.java_runtime import JavaError, choose_java, ensure_local_host, ensure_utf8_locale
from experiments.logs import LOGGER, TERMINAL, configure_logging
from experiments.packages import ROOT, zip_packages
from experiments.temporary_folder import enter_folder

DEFAULTS = ROOT / "conf/spark-defaults.conf"
LOGGING = ROOT / "conf/log4j2.properties"
# Options of spark-submit without a value.
SWITCHES = ("-h", "--help", "-v", "--verbose", "--version", "--supervise", "--usage-error")


def prepare(environment: MutableMapping[str, str], arguments: list[str]) -> list[str]:
    """Prepare the environment and the options with which Spark's JVM is started.

    The project's settings for Spark and for logging apply. A user's ``SPARK_CONF_DIR`` and ``--properties-file``
    override them.

    Args:
        environment: environment variables of the JVM, which are changed.
        arguments: command-line arguments of ``spark-submit``.

    Returns:
        Options of ``spark-submit`` to insert before the arguments.

    Raises:
        JavaError: no Java is available that Spark can run on.
    """
    pyspark = find_spec("pyspark")
    assert pyspark is not None
    assert pyspark.origin is not None
    environment["SPARK_HOME"] = str(Path(pyspark.origin).parent)
    environment["PYSPARK_DRIVER_PYTHON"] = sys.executable
    environment.setdefault("PYSPARK_PYTHON", sys.executable)
    choose_java(environment)
    ensure_utf8_locale(environment)
    # options of the short-lived JVM that builds Spark's command line
    environment.setdefault("SPARK_LAUNCHER_OPTS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")

    # a job that submits another job passes on this environment, so SPARK_CONF_DIR may already be this empty folder
    empty_conf = Path(sys.prefix, "share/spark-conf")
    user_conf = Path(environment.get("SPARK_CONF_DIR") or empty_conf)
    if not (user_conf.is_dir() and any(user_conf.iterdir())):
        user_conf = empty_conf
    environment["SPARK_CONF_DIR"] = str(user_conf)
    user_settings = _user_settings(environment, arguments)
    options = [word for name, value in read_properties(DEFAULTS).items() if name not in user_settings
               for word in ("--conf", f"{name}={value}")]  # fmt: skip
    spark_options = _split(arguments)[0]
    master = _option(spark_options, "--master") or _conf(spark_options, "spark.master")
    master = master or user_settings.get("spark.master", "local")
    if master.split("[")[0] == "local":
        ensure_local_host(environment)

    if user_conf == empty_conf:
        with suppress(OSError):
            empty_conf.mkdir(parents=True, exist_ok=True)
    user_options = environment.get("SPARK_SUBMIT_OPTS", "")
    java_options = []
    words = [*arguments, user_options, user_settings.get("spark.driver.extraJavaOptions", "")]
    # With the archive, Java 17 crashes when Flight Recorder starts at its own start.
    if user_conf == empty_conf and not any("StartFlightRecording" in word for word in words):
        java_options += _archive_options()
    if not any(user_conf.glob("log4j2*")):
        java_options.append(f"-Dlog4j2.configurationFile={LOGGING.as_uri()}")
    temporary_folder = environment.get("TMPDIR")
    if temporary_folder and "," not in temporary_folder:  # Spark reads a comma as a separator of folders
        java_options.append(f"-Djava.io.tmpdir={temporary_folder}")
    # the user's options come last, because later options override earlier ones
    environment["SPARK_SUBMIT_OPTS"] = " ".join([*map(_quoted, java_options), user_options])
    return options


def _archive_options() -> list[str]:
    """Options with which Java loads Spark's classes, already verified, from the archive that ``make setup`` creates.

    This saves a job about three seconds. The archive cannot be used if the class path has a folder with files in it,
    such as a user's ``SPARK_CONF_DIR``.
    """
    archive = Path(sys.prefix, "spark.jsa")
    if not archive.exists() or ":" in str(archive):  # Java reads a colon as a separator of archives
        return []
    return [f"-XX:SharedArchiveFile={archive}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]


def ship_project(environment: MutableMapping[str, str], arguments: list[str], folder: Path) -> list[str]:
    """Send the project to the driver on a YARN cluster. Spark itself sends nothing but the job's script.

    Args:
        environment: environment variables of the JVM, which are changed.
        arguments: command-line arguments of ``spark-submit``.
        folder: folder for temporary files.

    Returns:
        The arguments, with the project among ``--archives``, and the job's ``--config`` among ``--files``. In client
        mode they are unchanged.
    """
    options, job = _split(arguments)
    settings = _user_settings(environment, arguments)

    def setting(name: str) -> str | None:
        return _conf(options, name) or settings.get(name)

    mode = _option(options, "--deploy-mode") or setting("spark.submit.deployMode")
    if mode != "cluster" or not job:
        return arguments
    environment["PYSPARK_DRIVER_PYTHON"] = environment["PYSPARK_PYTHON"]
    given = _option(options, "--archives") or setting("spark.archives") or setting("spark.yarn.dist.archives")
    options = _with_value(options, "--archives", given, f"{zip_packages(folder)}#handshape")
    if setting("spark.yarn.appMasterEnv.PYTHONPATH") is None:
        options += ["--conf", "spark.yarn.appMasterEnv.PYTHONPATH=handshape"]
    config = _option(job[1:], "--config")
    if config is not None and Path(config).is_file():
        given = _option(options, "--files") or setting("spark.files") or setting("spark.yarn.dist.files")
        options = _with_value(options, "--files", given, config)
        name = Path(config).name
        job = [name if word == config else f"--config={name}" if word == f"--config={config}" else word for word in job]
    return options + job


def _with_value(options: list[str], name: str, given: str | None, value: str) -> list[str]:
    """Add a value to an option of ``spark-submit`` that takes a list."""
    return [*options, name, f"{given},{value}" if given else value]


def _user_settings(environment: MutableMapping[str, str], arguments: list[str]) -> dict[str, str]:
    """The settings of ``--properties-file``, or of the folder ``SPARK_CONF_DIR``."""
    properties_file = _option(_split(arguments)[0], "--properties-file")
    return read_properties(Path(properties_file or Path(environment["SPARK_CONF_DIR"], DEFAULTS.name)))


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split command-line arguments into the options of ``spark-submit`` and the job with its own arguments."""
    index = 0
    while index < len(arguments) and arguments[index].startswith("-"):
        has_value = "=" not in arguments[index] and arguments[index] not in SWITCHES
        index += 2 if has_value else 1
    return arguments[:index], arguments[index:]


def read_properties(file: Path) -> dict[str, str]:
    """Read the settings of a ``spark-defaults.conf``. If the file does not exist, there are no settings."""
    if not file.is_file():
        return {}
    joined_lines = re.sub(r"\\\r?\n\s*", "", file.read_text(errors="replace"))
    lines = (line.strip() for line in joined_lines.splitlines())
    pairs = (re.split(r"\s*[=:\s]\s*", line, maxsplit=1) for line in lines if line and line[0] not in "#!")
    return {pair[0]: pair[1] if len(pair) > 1 else "" for pair in pairs}


def _option(arguments: list[str], name: str) -> str | None:
    """The last value of an option of ``spark-submit``."""
    value = None
    for argument, following in pairwise([*arguments, ""]):
        if argument == name:
            value = following
        elif argument.startswith(f"{name}="):
            value = argument.partition("=")[2]
    return value


def _conf(arguments: list[str], name: str) -> str | None:
    """The last value of a Spark setting that is given by ``--conf``."""
    settings = [argument for argument in arguments if argument.removeprefix("--conf=").startswith(f"{name}=")]
    return settings[-1].removeprefix("--conf=").partition("=")[2] if settings else None


def _quoted(option: str) -> str:
    """Quote an option in the way that Spark's launcher expects."""
    return '"' + option.replace("\\", "\\\\").replace('"', '\\"') + '"'


def main() -> int:
    arguments = sys.argv[1:]
    os.environ[TERMINAL] = "1" if sys.stdout.isatty() else ""
    configure_logging()
    try:
        folder, lock = enter_folder()
        options = prepare(os.environ, arguments)
        arguments = ship_project(os.environ, arguments, folder)
    except (JavaError, OSError) as error:
        LOGGER.error(str(error))
        return 1
    # The terminal sends Ctrl-C to the job, too. If the JVM did not ignore it, Spark would end immediately.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    command = [f"{os.environ['SPARK_HOME']}/bin/spark-submit", *options, *arguments]
    # the JVM inherits the lock, because it may live longer than this process
    jvm = subprocess.Popen(command, pass_fds=[lock] if lock is not None else [])

    def stop(number: int, _: object) -> None:
        """Forward SIGTERM to the job instead of the JVM, which would end immediately, so that the job can clean up. If
        the job has not started yet, there is nothing to clean up."""
        job = _find_job(jvm.pid)
        if number == signal.SIGTERM or job is None:
            with suppress(ProcessLookupError):
                os.kill(job or jvm.pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    status = jvm.wait()
    return status if status >= 0 else 128 - status


def _find_job(jvm: int) -> int | None:
    """Find the process of the Python job: the child of the JVM that runs a script."""
    for children in Path("/proc", str(jvm), "task").glob("*/children"):
        with suppress(OSError):
            for child in children.read_text().split():
                command = Path("/proc", child, "cmdline").read_bytes().split(b"\0")
                if any(word.endswith(b".py") for word in command):
                    return int(child)
    return None


if __name__ == "__main__":
    sys.exit(main())
