import itertools

import keras
import numpy as np
import pytest

from models.callbacks import CosineSchedule


class _Rates(keras.callbacks.Callback):
    def on_train_begin(self, logs: object = None) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self.seen.append(float(keras.backend.get_value(self.model.optimizer.lr)))


def rates(epochs: int, steps: int) -> list[float]:
    """The learning rate of every step of a real training that is compiled with 0.5."""
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(1,))])
    model.compile(keras.optimizers.Adam(0.5), "mse")
    seen = _Rates()
    model.fit(np.ones((steps, 1)), np.ones(steps), 1, epochs, verbose=0, callbacks=[CosineSchedule(epochs), seen])
    return seen.seen


def test_the_rate_rises_in_the_first_epoch_and_falls_to_nearly_nothing() -> None:
    seen = rates(epochs=4, steps=10)
    assert seen[:10] == pytest.approx([0.5 * (i + 1) / 10 for i in range(10)])
    assert seen[10] == pytest.approx(0.5)
    assert seen[25] == pytest.approx(0.25)
    assert all(a > b for a, b in itertools.pairwise(seen[10:]))
    assert seen[-1] < 0.002


def test_a_single_epoch_only_falls() -> None:
    seen = rates(epochs=1, steps=10)
    assert seen[0] == pytest.approx(0.5)
    assert seen[5] == pytest.approx(0.25)
