"""A run directory is there whole or not at all."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from evaluation.runs import RunError
from jobs.run_directory import open_runs, staged_run
from preprocessing.errors import InputError
from preprocessing.storage import Storage, local_path


def write(storage: Storage, path: Path, text: str, overwrite: bool = False) -> None:
    with staged_run(storage, str(path), overwrite, "test") as staged:
        (staged.local / "metrics.json").write_text(json.dumps({"text": text}))
        (staged.local / "figures").mkdir()
        for name in ("a.png", "b.txt"):
            (staged.local / "figures" / name).write_text(text)
        assert not (path / "run.json").exists() or overwrite


def test_it_appears_when_all_is_written_and_nothing_stays_beside_it(storage: Storage, tmp_path: Path) -> None:
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


def test_what_was_in_the_folder_before_survives_a_failure(storage: Storage, tmp_path: Path) -> None:
    write(storage, tmp_path / "runs/a", "one")
    with pytest.raises(ValueError, match="later"), staged_run(storage, str(tmp_path / "runs/a"), True, "test"):
        raise ValueError("later")
    assert (tmp_path / "runs/a/metrics.json").read_text() == '{"text": "one"}'
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["a"]


def test_a_run_that_is_there_is_replaced_only_when_told_to(storage: Storage, tmp_path: Path) -> None:
    write(storage, tmp_path / "a", "one")
    with pytest.raises(InputError, match=r"there is a run already.*--overwrite"):
        write(storage, tmp_path / "a", "two")
    assert (tmp_path / "a/metrics.json").read_text() == '{"text": "one"}'
    write(storage, tmp_path / "a", "two", overwrite=True)
    assert (tmp_path / "a/metrics.json").read_text() == '{"text": "two"}'
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_cannot_be_written_is_refused(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"cannot be written"),
        staged_run(storage, str(tmp_path / "file/a"), False, "test"),
    ):
        pass


# Every operation by which a run directory changes.
STEPS = ("write_text", "copy", "delete", "make_folder", "upload", "rename")


class KilledStorage(Storage):
    """A file system that renames a folder file by file: it ends its process with the operation of this number, half-way
    where that copies or renames a folder."""

    def __init__(self, storage: Storage, last: int) -> None:
        self.__dict__ |= vars(storage)
        self.left = last

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in STEPS:
            return method

        def step(*arguments: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                if name in ("copy", "rename") and (source := local_path(arguments[0])).is_dir():
                    files = sorted(source.iterdir())
                    for file in files[: len(files) // 2]:
                        (local_path(arguments[1])).mkdir(exist_ok=True)
                        shutil.copy(file, local_path(arguments[1]))
                os._exit(9)
            return method(*arguments)

        return step


def killed_after(storage: Storage, steps: int, path: Path, text: str, overwrite: bool) -> bool:
    """Write a run in a process that ends like that; whether it did."""
    child = os.fork()
    if child == 0:
        try:
            write(KilledStorage(storage, steps), path, text, overwrite)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def found(storage: Storage, path: Path) -> tuple[str, str] | None:
    """What a reader of the run finds: its metrics, and a file of a folder in it."""
    try:
        [run] = open_runs(storage, [str(path)])
    except RunError:
        return None
    return run.metrics["text"], (Path(run.files) / "figures/b.txt").read_text()


@pytest.mark.parametrize("before", [None, "old"])
def test_a_job_killed_at_any_step_leaves_the_old_run_the_new_one_or_none(
    storage: Storage, tmp_path: Path, before: str | None
) -> None:
    path, seen = tmp_path / "runs/a", []
    for steps in range(100):
        if before:
            write(storage, path, before, overwrite=True)
        dead = killed_after(storage, steps, path, "new", overwrite=before is not None)
        seen.append(found(storage, path))
        write(storage, path, "next", overwrite=True)
        assert found(storage, path) == ("next", "next")
        assert sorted(p.name for p in path.iterdir()) == ["figures", "metrics.json", "run.json"]
        assert [p.name for p in (tmp_path / "runs").iterdir()] == ["a"]
        shutil.rmtree(path)
        if not dead:
            break
    old, new = before and (before, before), ("new", "new")
    assert set(seen) == {old, new}
    assert seen == sorted(seen, key=lambda state: state == new)
    assert len(seen) > 5


def test_the_next_job_needs_no_overwrite_after_one_that_was_killed_before_its_run_was_whole(
    storage: Storage, tmp_path: Path
) -> None:
    assert killed_after(storage, 3, tmp_path / "a", "new", overwrite=False)
    assert found(storage, tmp_path / "a") is None
    write(storage, tmp_path / "a", "next")
    assert found(storage, tmp_path / "a") == ("next", "next")


def test_of_two_jobs_on_one_run_the_second_is_refused_and_harms_nothing(storage: Storage, tmp_path: Path) -> None:
    for overwrite in (False, True):
        with staged_run(storage, str(tmp_path / "a"), overwrite, "test") as staged:
            (staged.local / "metrics.json").write_text("{}")
            with pytest.raises(InputError, match="another job writes this run"):
                write(storage, tmp_path / "a", "two", overwrite)
        assert (tmp_path / "a/metrics.json").read_text() == "{}"
        assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["metrics.json", "run.json"]


def test_a_folder_that_is_no_run_is_not_written_into(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/thesis.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"a folder with thesis\.txt in it, and no run: it is not replaced"):
            write(storage, tmp_path / "a", "one", overwrite)
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["thesis.txt"]


def test_names_are_the_users(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "try [2], {a} é #1 %41 10:30 🎈/runs/*"
    write(storage, path, "one")
    assert found(storage, path) == ("one", "one")


def test_a_run_that_is_read_is_not_written_over(storage: Storage, tmp_path: Path) -> None:
    write(storage, tmp_path / "a", "one")
    for inner in ("a", "a/predictions"):
        read = [storage.absolute(str(tmp_path / inner))]
        with (
            pytest.raises(InputError, match="is read by this job"),
            staged_run(storage, str(tmp_path / "a"), True, "test", inputs=read),
        ):
            pass
    assert found(storage, tmp_path / "a") == ("one", "one")


def test_a_run_that_is_damaged_is_replaced(storage: Storage, tmp_path: Path) -> None:
    write(storage, tmp_path / "a", "one")
    (tmp_path / "a/run.json").write_text("{")
    write(storage, tmp_path / "a", "two", overwrite=True)
    assert found(storage, tmp_path / "a") == ("two", "two")
