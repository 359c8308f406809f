import pytest

from training.progression import best_epoch, has_finished, plateau_factor
from training.training_settings import Training


def history(*losses: float) -> list[dict[str, float]]:
    return [{"val_loss": loss} for loss in losses]


def test_training_ends_after_all_epochs_or_by_early_stopping() -> None:
    settings = Training(epochs=5, early_stopping=2)
    assert not has_finished([], settings)
    assert not has_finished(history(3, 2, 2.5), settings)
    assert has_finished(history(3, 2, 2.5, 2.1), settings)
    assert not has_finished(history(3, 2, 2.5, 1.9), settings)
    assert has_finished(history(5, 4, 3, 2, 1), settings)
    assert not has_finished(history(3, 4, 5, 6), Training(epochs=5))


def test_the_best_epoch_has_the_lowest_validation_loss() -> None:
    assert best_epoch(history(3, 1, 2, 1)) == 2


def test_the_learning_rate_is_halved_on_each_plateau() -> None:
    assert plateau_factor([], 2) == 1
    assert plateau_factor(history(3, 2, 2, 2), 2) == 0.5
    assert plateau_factor(history(3, 2, 2, 1, 2), 2) == 1
    assert plateau_factor(history(3, 3, 3, 3, 3), 2) == pytest.approx(0.25)
