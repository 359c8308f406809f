"""The temporary folder of a job."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.packages import ROOT
from experiments.temporary_folder import LOCK, VARIABLE, remove_abandoned_folders

JOB = """
import pathlib, sys, tempfile
from experiments.temporary_folder import enter_folder
folder, _ = enter_folder()
pathlib.Path(tempfile.mkdtemp(), "half-written").write_text("x")
print(folder, flush=True)
sys.stdin.read()
"""


def start(parent: Path, **variables: str) -> tuple["subprocess.Popen[str]", Path]:
    """Start a process that enters a job's folder, and return that folder, too."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    process = subprocess.Popen(
        [sys.executable, "-c", JOB], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env=environment | {"TMPDIR": str(parent)} | variables,
    )  # fmt: skip
    assert process.stdout is not None
    return process, Path(process.stdout.readline().rstrip("\n"))


@pytest.mark.parametrize("name", ["plain", "a [b] #c %41 é"])
def test_all_temporary_files_are_in_one_folder_which_is_deleted_with_the_job(name: str, tmp_path: Path) -> None:
    parent = tmp_path / name
    parent.mkdir()
    process, folder = start(parent)
    assert list(parent.iterdir()) == [folder]
    assert len(list(folder.glob("tmp*/half-written"))) == 1
    process.communicate()
    assert list(parent.iterdir()) == []


def test_the_next_job_deletes_the_folder_of_a_killed_job_but_not_of_a_running_one(tmp_path: Path) -> None:
    killed, abandoned_folder = start(tmp_path)
    running, running_folder = start(tmp_path)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert (abandoned_folder / LOCK).exists()
    next_job, next_folder = start(tmp_path)
    assert set(tmp_path.iterdir()) == {running_folder, next_folder}
    for process in (running, next_job):
        process.communicate()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_such_a_name_that_no_job_has_created_is_kept(tmp_path: Path) -> None:
    (tmp_path / "handshape-data").mkdir()
    (tmp_path / "handshape-data/mine").touch()
    (tmp_path / "handshape-link").symlink_to(tmp_path / "handshape-data")
    (tmp_path / "handshape-file").touch()
    remove_abandoned_folders(tmp_path)
    assert (tmp_path / "handshape-data/mine").exists()
    assert len(list(tmp_path.iterdir())) == 3


def test_a_job_started_by_another_uses_its_folder(tmp_path: Path) -> None:
    first, folder = start(tmp_path)
    second, second_folder = start(folder, **{VARIABLE: str(folder)})
    assert second_folder == folder
    second.communicate()
    assert folder.exists()
    first.communicate()


def test_files_that_could_not_be_deleted_are_deleted_by_the_next_job(tmp_path: Path) -> None:
    process, folder = start(tmp_path)
    process.kill()
    process.communicate()
    (folder / "spark").mkdir()
    if os.getuid():
        (folder / "spark/inner").mkdir()
        (folder / "spark").chmod(0o500)
        remove_abandoned_folders(tmp_path)
        assert (folder / LOCK).exists()
        (folder / "spark").chmod(0o700)
    remove_abandoned_folders(tmp_path)
    assert not folder.exists()
