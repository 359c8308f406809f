"""A run directory is published atomically."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from evaluation.runs import RunError
from experiments.run_directory import open_runs, staged_run
from preprocessing.errors import InputError
from preprocessing.file_systems import local_path
from preprocessing.storage import Storage


def write(storage: Storage, path: Path, content: str, overwrite: bool = False) -> None:
    with staged_run(storage, str(path), overwrite, "test") as staged:
        (staged.local / "metrics.json").write_text(json.dumps({"content": content}))
        (staged.local / "figures").mkdir()
        for name in ("a.png", "b.txt"):
            (staged.local / "figures" / name).write_text(content)
        assert not (path / "run.json").exists() or overwrite


def test_a_run_is_published_when_it_is_complete_and_no_temporary_files_stay(storage: Storage, tmp_path: Path) -> None:
    write(storage, tmp_path / "runs/a", "one")
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == [
        "runs/a/figures/a.png",
        "runs/a/figures/b.txt",
        "runs/a/metrics.json",
        "runs/a/run.json",
    ]


@pytest.mark.parametrize("end", [ValueError, KeyboardInterrupt])
def test_a_job_that_fails_or_is_interrupted_leaves_nothing(
    storage: Storage, tmp_path: Path, end: type[BaseException]
) -> None:
    with pytest.raises(end), staged_run(storage, str(tmp_path / "runs/a"), False, "test"):
        raise end
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_run_survives_a_failure(storage: Storage, tmp_path: Path) -> None:
    write(storage, tmp_path / "runs/a", "one")
    with pytest.raises(ValueError, match="later"), staged_run(storage, str(tmp_path / "runs/a"), True, "test"):
        raise ValueError("later")
    assert (tmp_path / "runs/a/metrics.json").read_text() == '{"content": "one"}'
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["a"]


def test_an_existing_run_is_replaced_only_with_overwrite(storage: Storage, tmp_path: Path) -> None:
    write(storage, tmp_path / "a", "one")
    with pytest.raises(InputError, match=r"a run exists already.*--overwrite"):
        write(storage, tmp_path / "a", "two")
    assert (tmp_path / "a/metrics.json").read_text() == '{"content": "one"}'
    write(storage, tmp_path / "a", "two", overwrite=True)
    assert (tmp_path / "a/metrics.json").read_text() == '{"content": "two"}'
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_cannot_be_written_is_rejected(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"cannot be written"),
        staged_run(storage, str(tmp_path / "file/a"), False, "test"),
    ):
        pass


# The operations that change a run directory.
STEPS = ("write_text", "copy", "delete", "make_folder", "upload", "rename")


class KilledStorage(Storage):
    """A file system that ends its process after this number of operations, halfway if it copies or renames a folder,
    which it does file by file."""

    def __init__(self, storage: Storage, operations: int) -> None:
        self.__dict__ |= vars(storage)
        self.remaining = operations

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in STEPS:
            return method

        def step(*arguments: Any) -> Any:
            self.remaining -= 1
            if self.remaining < 0:
                if name in ("copy", "upload", "rename") and (source := local_path(str(arguments[0]))).is_dir():
                    files = [file for file in sorted(source.rglob("*")) if file.is_file()]
                    for file in files[: len(files) // 2]:
                        copy = local_path(arguments[1]) / file.relative_to(source)
                        copy.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copy(file, copy)
                os._exit(9)
            return method(*arguments)

        return step


def killed_after(storage: Storage, steps: int, path: Path, content: str, overwrite: bool) -> bool:
    """Write a run in a process that is killed after some operations; return whether it was killed before its end."""
    child = os.fork()
    if child == 0:
        try:
            write(KilledStorage(storage, steps), path, content, overwrite)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def read(storage: Storage, path: Path) -> tuple[str, str] | None:
    """Read the content of a run's metrics, and of a file in a subfolder; None if it is not a run."""
    try:
        [run] = open_runs(storage, [str(path)])
    except RunError:
        return None
    return run.metrics["content"], (Path(run.files) / "figures/b.txt").read_text()


@pytest.mark.parametrize("old_content", [None, "old"])
def test_a_job_killed_at_any_step_leaves_the_old_run_the_new_one_or_none(
    storage: Storage, tmp_path: Path, old_content: str | None
) -> None:
    path, states = tmp_path / "runs/a", []
    for steps in range(100):
        if old_content:
            write(storage, path, old_content, overwrite=True)
        is_killed = killed_after(storage, steps, path, "new", overwrite=old_content is not None)
        states.append(read(storage, path))
        write(storage, path, "next", overwrite=True)
        assert read(storage, path) == ("next", "next")
        assert sorted(p.name for p in path.iterdir()) == ["figures", "metrics.json", "run.json"]
        assert [p.name for p in (tmp_path / "runs").iterdir()] == ["a"]
        shutil.rmtree(path)
        if not is_killed:
            break
    old, new = old_content and (old_content, old_content), ("new", "new")
    assert set(states) == {old, new}
    assert states == sorted(states, key=lambda state: state == new)
    assert len(states) > 5


def test_after_a_job_that_was_killed_before_publishing_its_run_the_next_job_needs_no_overwrite(
    storage: Storage, tmp_path: Path
) -> None:
    assert killed_after(storage, 3, tmp_path / "a", "new", overwrite=False)
    assert read(storage, tmp_path / "a") is None
    write(storage, tmp_path / "a", "next")
    assert read(storage, tmp_path / "a") == ("next", "next")


def test_the_second_of_two_jobs_that_write_the_same_run_is_rejected_and_changes_nothing(
    storage: Storage, tmp_path: Path
) -> None:
    for overwrite in (False, True):
        with staged_run(storage, str(tmp_path / "a"), overwrite, "test") as staged:
            (staged.local / "metrics.json").write_text("{}")
            with pytest.raises(InputError, match="another job writes this run"):
                write(storage, tmp_path / "a", "two", overwrite)
        assert (tmp_path / "a/metrics.json").read_text() == "{}"
        assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["metrics.json", "run.json"]


def test_a_folder_that_is_not_a_run_is_not_changed(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/thesis.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"the folder contains thesis\.txt and is not a run, so it is kept"):
            write(storage, tmp_path / "a", "one", overwrite)
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["thesis.txt"]


def test_run_directories_may_have_any_name(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "try [2], {a} é #1 %41 10:30 🎈/runs/*"
    write(storage, path, "one")
    assert read(storage, path) == ("one", "one")


def test_a_run_that_the_job_reads_is_not_overwritten(storage: Storage, tmp_path: Path) -> None:
    write(storage, tmp_path / "a", "one")
    for inner in ("a", "a/predictions"):
        inputs = [storage.absolute(str(tmp_path / inner))]
        with (
            pytest.raises(InputError, match="is read by this job"),
            staged_run(storage, str(tmp_path / "a"), True, "test", inputs=inputs),
        ):
            pass
    assert read(storage, tmp_path / "a") == ("one", "one")


def test_a_damaged_run_is_replaced(storage: Storage, tmp_path: Path) -> None:
    write(storage, tmp_path / "a", "one")
    (tmp_path / "a/run.json").write_text("{")
    write(storage, tmp_path / "a", "two", overwrite=True)
    assert read(storage, tmp_path / "a") == ("two", "two")
