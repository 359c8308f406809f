import pandas as pd
import pytest

from evaluation.overfitting import overfitting


def history(losses: list[float], validation: list[float], accuracy: float, val_accuracy: float) -> pd.DataFrame:
    epochs = range(1, len(losses) + 1)
    return pd.DataFrame(
        {"epoch": epochs, "loss": losses, "val_loss": validation, "accuracy": accuracy, "val_accuracy": val_accuracy}
    )


def test_curves_that_part_are_found_with_the_epoch_and_by_how_much() -> None:
    found = overfitting(history([2, 1, 0.1, 1e-7], [2, 1, 1.2, 1.5], 0.9, 0.89), 2, 0.88)
    assert found["found"]
    assert found["parted"]
    assert found["best_epoch"] == 2
    assert found["loss_rise"] == pytest.approx(0.5)


def test_a_gap_to_the_test_set_is_found_where_the_curves_do_not_part() -> None:
    found = overfitting(history([2, 1, 0.5], [2, 1, 0.6], 1.0, 1.0), 3, 0.7)
    assert found["found"]
    assert not found["parted"]
    assert (found["validation_gap"], found["test_gap"]) == (0, pytest.approx(0.3))


def test_a_gap_between_validation_and_test_is_told_from_one_to_the_training_pictures() -> None:
    found = overfitting(history([2, 1, 0.5], [2, 1, 0.6], 0.98, 1.0), 3, 0.94)
    assert not found["found"]
    assert found["moved"]
    assert found["elsewhere"] == pytest.approx(0.06)
    assert not overfitting(history([2, 1, 0.5], [2, 1, 0.6], 0.98, 0.97), 3, 0.96)["moved"]


def test_curves_that_stay_together_are_not_accused() -> None:
    found = overfitting(history([2, 1, 0.5], [2, 1.1, 0.6], 0.95, 0.94), 3, 0.93)
    assert not found["found"]


def test_a_loss_that_rises_on_both_sides_is_no_overfitting() -> None:
    assert not overfitting(history([2, 1, 1.5], [2, 1, 1.5], 0.9, 0.9), 2, 0.9)["parted"]
