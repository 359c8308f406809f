"""Unfinished trainings: what they keep in the store, and when they can be resumed."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.command_line import parse_experiment
from experiments.configuration import CnnExperiment
from experiments.data import clean_store, working_folder
from experiments.resuming import unfinished_run
from experiments.run_directory import staged_run
from preprocessing.errors import InputError
from preprocessing.prepare import PreparedImages
from preprocessing.splitting import CountedImages
from preprocessing.storage import Storage
from training.checkpoints import Checkpoint, Checkpoints


class Rows(PreparedImages):
    """Prepared images with nothing but a fingerprint."""

    def __init__(self, fingerprint: str) -> None:
        object.__setattr__(self, "counted", CountedImages({}, {}, fingerprint, "", {}))


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def train(
    storage: Storage, *options: str, epochs: int = 0, end: BaseException | None = None, rows: str = "1"
) -> list[int]:
    """Finish this number of epochs and end with this exception; return the epochs that existed before."""
    experiment = parse_experiment(CnnExperiment, "", [f"--store={Path.cwd()}/store", *options])
    run = experiment.run or "runs/unnamed"
    with (
        staged_run(storage, run, experiment.overwrite, "cnn", experiment.resume) as staged,
        unfinished_run(storage, experiment, run, staged) as unfinished,
    ):
        unfinished.check_rows(Rows(rows))
        checkpoints = Checkpoints(unfinished.checkpoints)
        previous_epochs = checkpoints.epochs()
        checkpoints = checkpoints.claim()
        history = [{"val_loss": 1.0}]
        for epoch in range(1, epochs + 1):
            checkpoints.write(Checkpoint(epoch, 0.0, history * epoch, [], [np.zeros(2)], []))
        if end is not None:
            raise end
    return previous_epochs


def train_and_interrupt(storage: Storage, *options: str, epochs: int = 2) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        train(storage, *options, epochs=epochs, end=KeyboardInterrupt())
    notes = getattr(caught.value, "__notes__", [])
    assert bool(notes) == (epochs > 0 and any(option.startswith("--run") for option in options))


def test_a_finished_training_leaves_nothing_in_the_store(storage: Storage, tmp_path: Path) -> None:
    assert train(storage, "--run=runs/a", epochs=2) == []
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_an_interrupted_training_is_rejected_and_continues_with_resume(storage: Storage, tmp_path: Path) -> None:
    train_and_interrupt(storage, "--run=runs/a")
    with pytest.raises(InputError, match=r"runs/a: a training of this name has not finished.*--resume continues it"):
        train(storage, "--run=runs/a")
    assert train(storage, "--run=runs/b") == []
    assert train(storage, "--run=runs/a", "--resume", "--num-proc=1") == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_overwrite_starts_over(storage: Storage) -> None:
    train_and_interrupt(storage, "--run=runs/a")
    assert train(storage, "--run=runs/a", "--overwrite") == []


def test_resume_starts_a_training_if_there_is_none(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(storage, "--run=runs/a", "--resume") == []
    assert "nothing to resume" in capsys.readouterr().out


@pytest.mark.parametrize("options", [("--run=runs/a",), ()], ids=["before an epoch", "without a name"])
def test_a_training_that_cannot_be_resumed_is_not_kept(
    storage: Storage, tmp_path: Path, options: tuple[str, ...]
) -> None:
    train_and_interrupt(storage, *options, epochs=0 if options else 2)
    assert list(tmp_path.iterdir()) == []


def test_another_experiment_or_other_rows_are_rejected_and_the_training_is_kept(storage: Storage) -> None:
    train_and_interrupt(storage, "--run=runs/a")
    with pytest.raises(InputError, match=r"began with training\.batch_size 120: give the same"):
        train(storage, "--run=runs/a", "--resume", "--training.batch-size=7")
    with pytest.raises(InputError, match="began with other rows"):
        train(storage, "--run=runs/a", "--resume", rows="2")
    assert train(storage, "--run=runs/a", "--resume") == [1, 2]


def test_a_training_that_replaces_a_run_continues_with_the_same_command(storage: Storage) -> None:
    train_and_interrupt(storage, "--run=runs/a", "--overwrite")
    assert train(storage, "--run=runs/a", "--overwrite", "--resume") == [1, 2]


def test_a_killed_training_without_a_finished_epoch_starts_over(storage: Storage, tmp_path: Path) -> None:
    train_and_interrupt(storage, "--run=runs/a")
    for file in (tmp_path / "store").glob("a-*/checkpoints/*"):
        file.unlink()
    assert train(storage, "--run=runs/a") == []


def clean(storage: Storage, tmp_path: Path) -> list[str]:
    """Clean the store as every job does at its start; return the names of the remaining folders."""
    experiment = parse_experiment(CnnExperiment, "", [f"--store={tmp_path}/store"])
    clean_store(storage, experiment)
    return [path.name for path in (tmp_path / "store").iterdir()]


def test_the_next_job_deletes_only_a_training_whose_run_was_published(storage: Storage, tmp_path: Path) -> None:
    with staged_run(storage, "runs/a", False, "cnn"):
        pass  # an older run with this name
    train_and_interrupt(storage, "--run=runs/a", "--overwrite")
    [folder] = clean(storage, tmp_path)
    token = json.loads((tmp_path / f"store/{folder}/training.json").read_text())["token"]
    about = json.loads((tmp_path / "runs/a/run.json").read_text())
    (tmp_path / "runs/a/run.json").write_text(json.dumps(about | {"training": token}))
    assert clean(storage, tmp_path) == []


def test_other_folders_in_the_store_are_kept(storage: Storage, tmp_path: Path) -> None:
    train_and_interrupt(storage, "--run=runs/a")
    [folder] = clean(storage, tmp_path)
    (tmp_path / f"store/{folder}/training.json").write_text("{}")
    for name in ("mine", "study", "features-mine", "cnn-01234567"):
        (tmp_path / "store" / name).mkdir()
        (tmp_path / "store" / name / ".unfinished").touch()
    (tmp_path / "store/cnn-01234567/run.json").touch()
    assert sorted(clean(storage, tmp_path)) == sorted([folder, "cnn-01234567", "features-mine", "mine", "study"])


def test_a_training_is_kept_until_its_run_is_published(storage: Storage, tmp_path: Path) -> None:
    experiment = parse_experiment(CnnExperiment, "", [f"--store={tmp_path}/store", "--run=runs/a"])
    with pytest.raises(OSError, match="full"), staged_run(storage, "runs/a", False, "cnn") as staged:  # noqa: PT012
        with unfinished_run(storage, experiment, "runs/a", staged) as unfinished:
            checkpoints = Checkpoints(unfinished.checkpoints).claim()
            checkpoints.write(Checkpoint(1, 0.0, [{"val_loss": 1.0}], [], [np.zeros(2)], []))
        raise OSError("full")
    assert Checkpoints(unfinished.checkpoints).epochs() == [1]


def test_working_folders_of_killed_jobs_are_deleted_and_other_folders_are_kept(
    storage: Storage, tmp_path: Path
) -> None:
    experiment = parse_experiment(CnnExperiment, "", [f"--store={tmp_path}/store"])
    killed = tmp_path / f"store/work-{1:032}"
    killed.mkdir(parents=True)
    (killed / ".unfinished").touch()
    (tmp_path / "store/mine").mkdir()
    with working_folder(storage, experiment, f"{tmp_path.as_uri()}/store/work-{2:032}"):
        clean_store(storage, experiment)
        assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["mine", f"work-{2:032}"]
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["mine"]


def test_resume_without_a_name_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_experiment(CnnExperiment, "", ["--resume"])
    assert "--resume needs --run" in capsys.readouterr().err
