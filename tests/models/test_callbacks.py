import itertools

import horovod.tensorflow.keras as hvd
import keras
import numpy as np
import pytest

from models.callbacks import CosineSchedule, EpochReport
from models.cnn import _LastLines


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


def test_a_loss_that_is_no_number_ends_the_training_with_what_to_change() -> None:
    hvd.init()
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(1,))])
    model.compile(keras.optimizers.SGD(1e30), "mse")
    report = EpochReport(rows=8, driver=("127.0.0.1", 9, b"nobody listens"))
    with pytest.raises(FloatingPointError, match=r"the loss of epoch 1 is (nan|inf): lower --training.learning-rate"):
        model.fit(np.ones((8, 1)), np.ones(8), 1, verbose=0, callbacks=[report])


def test_of_what_a_failed_process_prints_its_error_is_shown() -> None:
    said = _LastLines()
    said.write("[0]<stderr>:Traceback (most recent call last):\n[0]<stderr>:  File x\n[0]<std")
    said.write("err>:FloatingPointError: the loss is nan\n[1]<stderr>:some warning\n")
    assert said.failure() == "FloatingPointError: the loss is nan"
    other = _LastLines()
    other.write("[0]<stderr>:Killed\n")
    assert other.failure() == "Killed"
