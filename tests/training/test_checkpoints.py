"""Checkpoints are written atomically, and truncated or damaged files are never loaded."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from training.checkpoints import Checkpoint, Checkpoints


def checkpoint(losses: list[float]) -> Checkpoint:
    """Return the checkpoint after one epoch per validation loss."""
    history = [{"epoch": float(i + 1), "val_loss": loss} for i, loss in enumerate(losses)]
    arrays = [np.full((2, 3), len(losses), np.float32), np.array(len(losses))]
    return Checkpoint(len(losses), 5.0, history, [{"lost": "a host"}], arrays, [np.arange(len(losses))])


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints((tmp_path / "checkpoints").as_uri()).claim()


def test_a_checkpoint_is_read_as_it_was_written(checkpoints: Checkpoints) -> None:
    checkpoints.write(checkpoint([0.5, 0.4]))
    last = checkpoints.last()
    assert last is not None
    assert (last.epoch, last.time, last.best_epoch, last.failures) == (2, 5.0, 2, [{"lost": "a host"}])
    assert last.history == checkpoint([0.5, 0.4]).history
    for name in ("weights", "optimizer"):
        for array, expected in zip(getattr(last, name), getattr(checkpoint([0.5, 0.4]), name), strict=True):
            np.testing.assert_array_equal(array, expected)


def test_without_a_finished_epoch_there_is_no_checkpoint(checkpoints: Checkpoints) -> None:
    assert checkpoints.last() is None


def test_the_last_two_epochs_and_the_best_one_are_kept(checkpoints: Checkpoints) -> None:
    losses = [0.9, 0.2, 0.5, 0.6, 0.4]
    for epochs in range(1, 6):
        checkpoints.write(checkpoint(losses[:epochs]))
    assert checkpoints.epochs() == [2, 4, 5]


def test_the_best_epoch_is_available_also_when_the_newest_file_is_damaged(
    checkpoints: Checkpoints, tmp_path: Path
) -> None:
    losses = [0.2, 0.5, 0.6, 0.1]
    for epochs in range(1, 5):
        checkpoints.write(checkpoint(losses[:epochs]))
    (tmp_path / "checkpoints/epoch-00004.npz").write_bytes(b"PK")
    last = checkpoints.last()
    assert last is not None
    assert (last.epoch, last.best_epoch) == (3, 1)
    checkpoints.read(last.best_epoch)


def test_an_abandoned_attempt_can_neither_write_nor_delete(checkpoints: Checkpoints, tmp_path: Path) -> None:
    checkpoints.write(checkpoint([0.5]))
    later_attempt = checkpoints.claim()
    with pytest.raises(PermissionError, match="another job has resumed this training"):
        checkpoints.write(checkpoint([0.5, 0.4]))
    later_attempt.write(checkpoint([0.5, 0.3]))
    assert later_attempt.epochs() == [1, 2]
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(FileNotFoundError, match="the store was deleted while the training ran"):
        later_attempt.write(checkpoint([0.5, 0.3, 0.2]))
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_not_read(
    checkpoints: Checkpoints, tmp_path: Path, fraction: float, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints.write(checkpoint([0.5]))
    checkpoints.write(checkpoint([0.5, 0.4]))
    file = tmp_path / "checkpoints/epoch-00002.npz"
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * fraction)])
    last = checkpoints.last()
    assert last is not None
    assert last.epoch == 1
    assert "epoch-00002" in capsys.readouterr().err


def test_a_file_with_a_changed_byte_is_not_read(checkpoints: Checkpoints, tmp_path: Path) -> None:
    checkpoints.write(checkpoint([0.5]))
    file = tmp_path / "checkpoints/epoch-00001.npz"
    content = bytearray(file.read_bytes())
    content[content.index(np.float32(1).tobytes())] ^= 1
    file.write_bytes(content)
    assert checkpoints.last() is None


def test_a_file_that_is_still_being_written_is_not_read(checkpoints: Checkpoints, tmp_path: Path) -> None:
    checkpoints.write(checkpoint([0.5]))
    (tmp_path / "checkpoints/writing-00002").write_bytes(b"PK")
    assert checkpoints.epochs() == [1]
