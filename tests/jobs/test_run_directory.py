"""A run directory is there whole or not at all."""

from pathlib import Path

import pytest

from jobs.run_directory import staged_run
from preprocessing.errors import InputError
from preprocessing.storage import Storage


def write(storage: Storage, path: Path, text: str, overwrite: bool = False) -> None:
    with staged_run(storage, str(path), overwrite) as staged:
        (staged.local / "metrics.json").write_text(text)
        (staged.local / "figures").mkdir()
        (staged.local / "figures" / "a.png").write_text(text)
        assert not path.exists() or overwrite


def test_it_appears_when_all_is_written_and_nothing_stays_beside_it(storage: Storage, tmp_path: Path) -> None:
    write(storage, tmp_path / "runs/a", "one")
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == [
        "runs/a/figures/a.png",
        "runs/a/metrics.json",
    ]


@pytest.mark.parametrize("end", [ValueError, KeyboardInterrupt])
def test_a_job_that_fails_or_is_interrupted_leaves_nothing(
    storage: Storage, tmp_path: Path, end: type[BaseException]
) -> None:
    with pytest.raises(end), staged_run(storage, str(tmp_path / "runs/a"), False):
        raise end
    assert list(tmp_path.iterdir()) == []


def test_what_was_in_the_folder_before_survives_a_failure(storage: Storage, tmp_path: Path) -> None:
    write(storage, tmp_path / "runs/a", "one")
    with pytest.raises(ValueError, match="later"), staged_run(storage, str(tmp_path / "runs/a"), True):
        raise ValueError("later")
    assert (tmp_path / "runs/a/metrics.json").read_text() == "one"
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["a"]


def test_a_run_that_is_there_is_replaced_only_when_told_to(storage: Storage, tmp_path: Path) -> None:
    write(storage, tmp_path / "a", "one")
    with pytest.raises(InputError, match=r"there is a run already.*--overwrite"):
        write(storage, tmp_path / "a", "two")
    assert (tmp_path / "a/metrics.json").read_text() == "one"
    write(storage, tmp_path / "a", "two", overwrite=True)
    assert (tmp_path / "a/metrics.json").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_cannot_be_written_is_refused(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written"), staged_run(storage, str(tmp_path / "file/a"), False):
        pass
