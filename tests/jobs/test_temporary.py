"""The temporary folder of a job."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.session import ROOT
from jobs.temporary import LOCK, VARIABLE, remove_dead

JOB = """
import pathlib, sys, tempfile
from jobs.temporary import enter_folder
folder, _ = enter_folder()
pathlib.Path(tempfile.mkdtemp(), "half-written").write_text("x")
print(folder, flush=True)
sys.stdin.read()
"""


def start(around: Path, **variables: str) -> tuple["subprocess.Popen[str]", Path]:
    """A process with a job's folder, and that folder."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    process = subprocess.Popen(
        [sys.executable, "-c", JOB], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env=environment | {"TMPDIR": str(around)} | variables,
    )  # fmt: skip
    assert process.stdout is not None
    return process, Path(process.stdout.readline().rstrip("\n"))


@pytest.mark.parametrize("name", ["plain", "a [b] #c %41 é"])
def test_all_lies_in_one_folder_which_goes_with_the_job(name: str, tmp_path: Path) -> None:
    around = tmp_path / name
    around.mkdir()
    process, folder = start(around)
    assert list(around.iterdir()) == [folder]
    assert len(list(folder.glob("tmp*/half-written"))) == 1
    process.communicate()
    assert list(around.iterdir()) == []


def test_of_a_killed_job_the_next_one_removes_the_folder_and_of_a_living_one_not(tmp_path: Path) -> None:
    killed, left = start(tmp_path)
    living, kept = start(tmp_path)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert (left / LOCK).exists()
    following, own = start(tmp_path)
    assert set(tmp_path.iterdir()) == {kept, own}
    for process in (living, following):
        process.communicate()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_that_name_that_no_job_has_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "handshape-data").mkdir()
    (tmp_path / "handshape-data/mine").touch()
    (tmp_path / "handshape-link").symlink_to(tmp_path / "handshape-data")
    (tmp_path / "handshape-file").touch()
    remove_dead(tmp_path)
    assert (tmp_path / "handshape-data/mine").exists()
    assert len(list(tmp_path.iterdir())) == 3


def test_a_job_started_by_another_has_its_folder(tmp_path: Path) -> None:
    first, folder = start(tmp_path)
    second, same = start(folder, **{VARIABLE: str(folder)})
    assert same == folder
    second.communicate()
    assert folder.exists()
    first.communicate()


def test_what_a_removal_leaves_the_next_job_removes(tmp_path: Path) -> None:
    process, folder = start(tmp_path)
    process.kill()
    process.communicate()
    (folder / "spark").mkdir()
    if os.getuid():
        (folder / "spark/inner").mkdir()
        (folder / "spark").chmod(0o500)
        remove_dead(tmp_path)
        assert (folder / LOCK).exists()
        (folder / "spark").chmod(0o700)
    remove_dead(tmp_path)
    assert not folder.exists()
