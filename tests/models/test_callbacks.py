import itertools
import os
from pathlib import Path

import horovod.tensorflow.keras as hvd
import keras
import numpy as np
import pytest
import tensorflow as tf

from models.callbacks import Bfloat16, CosineSchedule, EpochEnd, GoOn, OwnCores, StepsPerExecution
from models.checkpoints import Checkpoints
from models.process_output import LastLines
from models.settings import Training


class _Rates(keras.callbacks.Callback):
    def on_train_begin(self, logs: object = None) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self.seen.append(float(keras.backend.get_value(self.model.optimizer.lr)))


def rates(epochs: int, steps: int, done: int = 0, rate: float = 0.5) -> list[float]:
    """The learning rate of every step of a real training that is compiled with ``rate``."""
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(1,))])
    model.compile(keras.optimizers.Adam(rate), "mse")
    seen = _Rates()
    schedule = CosineSchedule(epochs, done)
    model.fit(np.ones((steps, 1)), np.ones(steps), 1, epochs - done, verbose=0, callbacks=[schedule, seen])
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


def test_a_training_that_goes_on_has_the_rates_it_would_have_had() -> None:
    assert rates(epochs=4, steps=10, done=2) == pytest.approx(rates(epochs=4, steps=10)[20:])


def test_half_the_processes_go_on_with_half_the_rate_over_twice_the_steps() -> None:
    # Horovod has multiplied the rate by the number of processes when the training begins
    two, one = rates(epochs=4, steps=10), rates(epochs=4, steps=20, done=2, rate=0.25)
    assert one[::2] == pytest.approx([rate / 2 for rate in two[20:]])


NOBODY = ("127.0.0.1", 9, b"nobody listens")


def fit(unclaimed: Checkpoints, epochs: int, done: int, rate: float = 0.1) -> keras.Model:
    """A real training, up to an epoch, in which every step has the same rows."""
    hvd.init()
    checkpoints = unclaimed.claim()
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Dense(3, input_shape=(2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(rate), "mse")
    last = checkpoints.last()
    history = last.history if last else []
    callbacks = [GoOn(checkpoints, done)] if done else []
    callbacks.append(EpochEnd(Training(epochs=epochs), 8, checkpoints, history, [], 0.0, NOBODY))
    x = np.arange(16, dtype=np.float32).reshape(8, 2)
    model.fit(
        x, x.sum(axis=1), 8, epochs - done, verbose=0, shuffle=False, validation_data=(x, x[:, 0]), callbacks=callbacks
    )
    return model


def test_a_training_that_goes_on_reaches_what_it_would_have_reached(tmp_path: Path) -> None:
    whole, parts = (Checkpoints((tmp_path / name).as_uri()) for name in ("whole", "parts"))
    expected = fit(whole, 6, 0)
    fit(parts, 2, 0)
    found = fit(parts, 6, 2)
    for array, wanted in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e-6)
    first, second = whole.last(), parts.last()
    assert first is not None
    assert second is not None
    assert [row["epoch"] for row in second.history] == [1, 2, 3, 4, 5, 6]
    assert [row["loss"] for row in second.history] == pytest.approx([row["loss"] for row in first.history])


def test_a_long_epoch_s_steps_are_made_four_at_once_with_the_same_weights_and_curve(tmp_path: Path) -> None:
    hvd.init()
    x = np.random.default_rng(0).normal(size=(102, 2)).astype(np.float32)

    def trained(name: str, *callbacks: keras.callbacks.Callback) -> tuple[list[np.ndarray], list[float], int]:
        checkpoints = Checkpoints((tmp_path / name).as_uri()).claim()
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])
        model.compile(keras.optimizers.SGD(0.01), "mse")
        rates = _Rates()
        end = EpochEnd(Training(epochs=2), len(x), checkpoints, [], [], 0.0, NOBODY)
        model.fit(
            x, x[:, 0] * 3, 1, 2, verbose=0, shuffle=False, validation_data=(x, x[:, 0]),
            callbacks=[*callbacks, rates, end],
        )  # fmt: skip
        last = checkpoints.last()
        assert last is not None
        return model.get_weights(), last.history[0]["curve"], len(rates.seen)

    weights, curve, returns = trained("single")
    found, coarse, fewer = trained("at once", StepsPerExecution())
    assert (returns, fewer) == (2 * 102, 2 * 26)  # the last two steps of an epoch are made by themselves
    for array, wanted in zip(found, weights, strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e-5)
    assert len(curve) == 50
    assert len(coarse) == 26
    assert np.mean(coarse[:25]) == pytest.approx(np.mean(curve[:49]), rel=0.05)


def test_a_short_epoch_s_steps_are_made_one_by_one() -> None:
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(1,))])
    rates, x = _Rates(), np.ones((20, 1))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    model.fit(x, x, 1, 1, verbose=0, callbacks=[StepsPerExecution(), rates])
    assert len(rates.seen) == 20


def test_a_loss_that_is_no_number_ends_the_training_with_what_to_change(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path.as_uri())
    with pytest.raises(FloatingPointError, match=r"the loss of epoch \d is (nan|inf): lower --training.learning-rate"):
        fit(checkpoints, 5, 0, rate=1e30)


def test_of_what_a_failed_process_prints_its_error_is_shown() -> None:
    said = LastLines()
    said.write("[0]<stderr>:Traceback (most recent call last):\n[0]<stderr>:  File x\n[0]<std")
    said.write("err>:FloatingPointError: the loss is nan\n[1]<stderr>:some warning\n")
    assert said.named[-1] == "FloatingPointError: the loss is nan"
    # the others fail after it, and say more
    said.write(
        "[1]<stderr>:tensorflow.errors_impl.UnknownError: Graph execution error:\n" + "[1]<stderr>: [[node\n" * 30
    )
    assert said.named[-1] == "FloatingPointError: the loss is nan"
    other = LastLines()
    other.write("[0]<stderr>:Killed\n")
    assert list(other.named) == []
    assert other.lines[-1] == "Killed"


def test_in_bfloat16_a_training_goes_nearly_as_in_float32_and_its_weights_stay_float32() -> None:
    def trained(*callbacks: keras.callbacks.Callback) -> tuple[float, keras.Model]:
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.layers.Conv2D(8, 3, input_shape=(8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
        )
        model.compile(keras.optimizers.SGD(0.05), "mse")
        x = np.random.default_rng(0).normal(size=(64, 8, 8, 1)).astype(np.float32)
        history = model.fit(x, x[:, :2, 0, 0], 16, 3, shuffle=False, verbose=0, callbacks=list(callbacks))
        return history.history["loss"][-1], model

    loss, _ = trained()
    try:
        low, model = trained(Bfloat16())
        assert tf.config.optimizer.get_experimental_options()["auto_mixed_precision_onednn_bfloat16"] is True
    finally:
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": False})
    assert low == pytest.approx(loss, rel=0.1)
    assert {array.dtype for array in model.get_weights()} == {np.dtype(np.float32)}


def test_every_thread_of_a_rank_keeps_to_the_rank_s_cores() -> None:
    before = os.sched_getaffinity(0)
    hvd.init()
    try:
        OwnCores(1).on_train_begin()
        kept = [os.sched_getaffinity(int(thread.name)) for thread in Path("/proc/self/task").iterdir()]
    finally:
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setaffinity(int(thread.name), before)
    assert len(kept) > 1
    assert set(map(frozenset, kept)) == {frozenset({min(before)})}
