import pandas as pd
import pytest

from evaluation.overfitting import diverges, overfitting


def history(losses: list[float], validation_losses: list[float], accuracy: float, val_accuracy: float) -> pd.DataFrame:
    epochs = range(1, len(losses) + 1)
    return pd.DataFrame(
        {
            "epoch": epochs,
            "loss": losses,
            "val_loss": validation_losses,
            "accuracy": accuracy,
            "val_accuracy": val_accuracy,
        }
    )


def test_diverging_curves_are_reported_with_the_epoch_and_the_rise_of_the_loss() -> None:
    result = overfitting(history([2, 1, 0.5, 0.1, 1e-7], [2, 1, 1.2, 1.3, 1.5], 0.9, 0.89), 2, 0.88)
    assert result["overfits"]
    assert result["diverged"]
    assert result["best_epoch"] == 2
    assert result["loss_rise"] == pytest.approx(0.3)


def test_a_gap_to_the_test_set_counts_as_overfitting_when_the_curves_do_not_diverge() -> None:
    result = overfitting(history([2, 1, 0.5], [2, 1, 0.6], 1.0, 1.0), 3, 0.7)
    assert result["overfits"]
    assert not result["diverged"]
    assert (result["validation_gap"], result["test_gap"]) == (0, pytest.approx(0.3))


def test_a_gap_between_validation_and_test_is_distinguished_from_overfitting() -> None:
    result = overfitting(history([2, 1, 0.5], [2, 1, 0.6], 0.98, 1.0), 3, 0.94)
    assert not result["overfits"]
    assert result["drifted"]
    assert result["validation_test_gap"] == pytest.approx(0.06)
    assert not overfitting(history([2, 1, 0.5], [2, 1, 0.6], 0.98, 0.97), 3, 0.96)["drifted"]


def test_curves_that_stay_together_are_not_overfitting() -> None:
    result = overfitting(history([2, 1, 0.5], [2, 1.1, 0.6], 0.95, 0.94), 3, 0.93)
    assert not result["overfits"]


def test_rising_training_and_validation_losses_are_not_overfitting() -> None:
    assert not overfitting(history([2, 1, 1.1, 1.2, 1.5], [2, 1, 1.1, 1.2, 1.5], 0.9, 0.9), 2, 0.9)["diverged"]


def test_one_noisy_epoch_is_no_overfitting() -> None:
    assert not diverges([1, 0.9, 0.8, 0.7, 0.6], [1, 0.5, 0.52, 0.51, 0.9])
    assert diverges([1, 0.9, 0.8, 0.7, 0.6], [1, 0.5, 0.7, 0.8, 0.5001])


def test_a_loss_next_to_nothing_may_vary_by_more_than_a_tenth() -> None:
    assert not diverges([1, 0.01, 0.005, 0.004, 0.003], [1, 0.01, 0.02, 0.02, 0.02])
