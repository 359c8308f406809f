import itertools
import os
from pathlib import Path

import horovod.tensorflow.keras as hvd
import keras
import numpy as np
import pytest
import tensorflow as tf

from training.callbacks import CosineSchedule, EpochEnd, PinCores, Precision, ResumeTraining, StepsPerExecution
from training.checkpoints import Checkpoints
from training.cluster.process_output import LastLines
from training.cluster.reports import ReceiverAddress
from training.training_settings import Training


class _Rates(keras.callbacks.Callback):
    def on_train_begin(self, logs: object = None) -> None:
        self.rates: list[float] = []

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self.rates.append(float(keras.backend.get_value(self.model.optimizer.lr)))


def rates(epochs: int, steps: int, previous_epochs: int = 0, rate: float = 0.5) -> list[float]:
    """The learning rate of every step of a real training that is compiled with ``rate``."""
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(1,))])
    model.compile(keras.optimizers.Adam(rate), "mse")
    recorder = _Rates()
    schedule = CosineSchedule(epochs, previous_epochs)
    model.fit(
        np.ones((steps, 1)), np.ones(steps), 1, epochs - previous_epochs, verbose=0, callbacks=[schedule, recorder]
    )
    return recorder.rates


def test_the_rate_increases_in_the_first_epoch_and_then_decreases_nearly_to_zero() -> None:
    step_rates = rates(epochs=4, steps=10)
    assert step_rates[:10] == pytest.approx([0.5 * (i + 1) / 10 for i in range(10)])
    assert step_rates[10] == pytest.approx(0.5)
    assert step_rates[25] == pytest.approx(0.25)
    assert all(a > b for a, b in itertools.pairwise(step_rates[10:]))
    assert step_rates[-1] < 0.002


def test_the_rate_only_decreases_in_a_training_of_one_epoch() -> None:
    step_rates = rates(epochs=1, steps=10)
    assert step_rates[0] == pytest.approx(0.5)
    assert step_rates[5] == pytest.approx(0.25)


def test_a_resumed_training_has_the_rates_of_an_uninterrupted_one() -> None:
    assert rates(epochs=4, steps=10, previous_epochs=2) == pytest.approx(rates(epochs=4, steps=10)[20:])


def test_half_the_processes_resume_with_half_the_rate_over_twice_the_steps() -> None:
    # Horovod multiplies the rate by the number of processes before the training begins.
    two_processes, one_process = rates(epochs=4, steps=10), rates(epochs=4, steps=20, previous_epochs=2, rate=0.25)
    assert one_process[::2] == pytest.approx([rate / 2 for rate in two_processes[20:]])


UNREACHABLE_DRIVER = ReceiverAddress("127.0.0.1", 9, b"nobody listens", 0)


def fit(unclaimed: Checkpoints, epochs: int, previous_epochs: int, rate: float = 0.1) -> keras.Model:
    """Run a real training up to the given epoch, in which every step has the same rows."""
    hvd.init()
    checkpoints = unclaimed.claim()
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Dense(3, input_shape=(2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(rate), "mse")
    last = checkpoints.last()
    history = last.history if last else []
    callbacks = [ResumeTraining(checkpoints, previous_epochs)] if previous_epochs else []
    callbacks.append(EpochEnd(Training(epochs=epochs), 8, checkpoints, history, [], 0.0, UNREACHABLE_DRIVER))
    x = np.arange(16, dtype=np.float32).reshape(8, 2)
    model.fit(
        x, x.sum(axis=1), 8, epochs - previous_epochs, verbose=0, shuffle=False, validation_data=(x, x[:, 0]),
        callbacks=callbacks,
    )  # fmt: skip
    return model


def test_a_resumed_training_has_the_weights_and_losses_of_an_uninterrupted_one(tmp_path: Path) -> None:
    uninterrupted, resumed = (Checkpoints((tmp_path / name).as_uri()) for name in ("uninterrupted", "resumed"))
    expected_model = fit(uninterrupted, 6, 0)
    fit(resumed, 2, 0)
    model = fit(resumed, 6, 2)
    for weights, expected_weights in zip(model.get_weights(), expected_model.get_weights(), strict=True):
        np.testing.assert_allclose(weights, expected_weights, rtol=1e-6)
    expected, last = uninterrupted.last(), resumed.last()
    assert expected is not None
    assert last is not None
    assert [row["epoch"] for row in last.history] == [1, 2, 3, 4, 5, 6]
    assert [row["loss"] for row in last.history] == pytest.approx([row["loss"] for row in expected.history])


def test_the_steps_of_a_long_epoch_run_four_per_execution_with_the_same_weights_and_curve(tmp_path: Path) -> None:
    hvd.init()
    x = np.random.default_rng(0).normal(size=(102, 2)).astype(np.float32)

    def trained(name: str, *callbacks: keras.callbacks.Callback) -> tuple[list[np.ndarray], list[float], int]:
        checkpoints = Checkpoints((tmp_path / name).as_uri()).claim()
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])
        model.compile(keras.optimizers.SGD(0.01), "mse")
        recorder = _Rates()
        end = EpochEnd(Training(epochs=2), len(x), checkpoints, [], [], 0.0, UNREACHABLE_DRIVER)
        model.fit(
            x, x[:, 0] * 3, 1, 2, verbose=0, shuffle=False, validation_data=(x, x[:, 0]),
            callbacks=[*callbacks, recorder, end],
        )  # fmt: skip
        last = checkpoints.last()
        assert last is not None
        return model.get_weights(), last.history[0]["curve"], len(recorder.rates)

    expected_weights, curve, executions = trained("one step")
    weights, coarse_curve, fewer_executions = trained("several steps", StepsPerExecution())
    assert (executions, fewer_executions) == (2 * 102, 2 * 26)  # the last execution of an epoch has two steps
    for array, expected in zip(weights, expected_weights, strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-5)
    assert len(curve) == 50
    assert len(coarse_curve) == 26
    assert np.mean(coarse_curve[:25]) == pytest.approx(np.mean(curve[:49]), rel=0.05)


def test_the_steps_of_a_short_epoch_run_one_by_one() -> None:
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(1,))])
    recorder, x = _Rates(), np.ones((20, 1))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    model.fit(x, x, 1, 1, verbose=0, callbacks=[StepsPerExecution(), recorder])
    assert len(recorder.rates) == 20


def test_a_nan_or_infinite_loss_stops_training_and_names_the_option_to_change(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path.as_uri())
    with pytest.raises(FloatingPointError, match=r"the loss of epoch \d is (nan|inf): lower --training.learning-rate"):
        fit(checkpoints, 5, 0, rate=1e30)


def test_the_error_of_a_failed_process_is_selected_from_its_output() -> None:
    stderr = LastLines()
    stderr.write("[0]<stderr>:Traceback (most recent call last):\n[0]<stderr>:  File x\n[0]<std")
    stderr.write("err>:FloatingPointError: the loss is nan\n[1]<stderr>:some warning\n")
    assert stderr.error_lines[-1] == "FloatingPointError: the loss is nan"
    # The other processes fail after it and print longer messages.
    stderr.write(
        "[1]<stderr>:tensorflow.errors_impl.UnknownError: Graph execution error:\n" + "[1]<stderr>: [[node\n" * 30
    )
    assert stderr.error_lines[-1] == "FloatingPointError: the loss is nan"
    without_error = LastLines()
    without_error.write("[0]<stderr>:Killed\n")
    assert list(without_error.error_lines) == []
    assert without_error.lines[-1] == "Killed"


def test_in_bfloat16_the_loss_is_nearly_that_of_float32_and_weights_stay_float32() -> None:
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
        bfloat16_loss, model = trained(Precision("bfloat16"))
        assert tf.config.optimizer.get_experimental_options()["auto_mixed_precision_onednn_bfloat16"] is True
    finally:
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": False})
    assert bfloat16_loss == pytest.approx(loss, rel=0.1)
    assert {array.dtype for array in model.get_weights()} == {np.dtype(np.float32)}


def test_every_thread_of_a_rank_is_bound_to_the_rank_s_cores() -> None:
    allowed_cores = os.sched_getaffinity(0)
    hvd.init()
    try:
        PinCores(1).on_train_begin()
        thread_cores = [os.sched_getaffinity(int(thread.name)) for thread in Path("/proc/self/task").iterdir()]
    finally:
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setaffinity(int(thread.name), allowed_cores)
    assert len(thread_cores) > 1
    assert set(map(frozenset, thread_cores)) == {frozenset({min(allowed_cores)})}
