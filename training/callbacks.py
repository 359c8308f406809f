"""Callbacks that run on every rank, between the steps and epochs of a training."""

import atexit
import gc
import math
import os
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import horovod.tensorflow.keras as hvd
import numpy as np
import tensorflow as tf
from horovod.tensorflow.functions import allgather_object, broadcast_object
from keras import Sequential, backend, layers
from keras.callbacks import Callback

from training.checkpoints import Checkpoint, Checkpoints
from training.cluster.reports import EpochReporter, ReceiverAddress, TrialReporter
from training.diagnostics.checks import findings
from training.diagnostics.probe import Probe, Samples
from training.diagnostics.profiler import Profile
from training.progression import divergence, has_finished, plateau_factor
from training.training_settings import Training

Logs = dict[str, float] | None
CURVE_POINTS = 50
# TensorFlow runs this many steps before it returns to Python, as long as an epoch keeps at least EXECUTIONS_PER_EPOCH
# executions. All ranks wait for the slowest one after each execution.
STEPS_PER_EXECUTION, EXECUTIONS_PER_EPOCH = 4, 25


class CosineSchedule(Callback):
    """Increase the learning rate linearly in the first epoch, then decrease it to 0 along half a cosine.

    The warmup is for the large batches of many processes (Goyal et al., 2017). The decay follows Loshchilov and Hutter
    (2016). The peak is the rate the model is compiled with, times the number of processes. All steps of one execution
    have the rate of its first step.

    Args:
        epochs: the number of epochs of the entire training.
        previous_epochs: the number of epochs that finished before this attempt. They may have run on other hosts and
            with another number of processes.
    """

    def __init__(self, epochs: int, previous_epochs: int = 0) -> None:
        super().__init__()
        self.epochs = epochs
        self.previous_epochs = previous_epochs

    def on_train_begin(self, logs: Logs = None) -> None:
        self.peak = float(backend.get_value(self.model.optimizer.lr))

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.epoch = self.previous_epochs + epoch

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        steps = self.params["steps"]
        step = self.epoch * steps + batch
        warmup_steps = steps if self.epochs > 1 else 0
        if step < warmup_steps:
            rate = self.peak * (step + 1) / warmup_steps
        else:
            fraction = (step - warmup_steps) / (steps * self.epochs - warmup_steps)
            rate = self.peak * (1 + math.cos(math.pi * fraction)) / 2
        backend.set_value(self.model.optimizer.lr, rate)


class PlateauSchedule(Callback):
    """Halve the learning rate whenever the validation loss has not decreased for ``patience`` epochs.

    Args:
        patience: the number of epochs to wait.
        history: one row per finished epoch. Rows are appended while the training runs.
    """

    def __init__(self, patience: int, history: list[dict[str, Any]]) -> None:
        super().__init__()
        self.patience = patience
        self.history = history

    def on_train_begin(self, logs: Logs = None) -> None:
        self.peak = float(backend.get_value(self.model.optimizer.lr))

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        backend.set_value(self.model.optimizer.lr, self.peak * plateau_factor(self.history, self.patience))


def schedules(settings: Training, history: list[dict[str, Any]], previous_epochs: int = 0) -> list[Callback]:
    """The callback that changes the learning rate; an empty list if the rate is constant.

    Args:
        settings: how the network is trained.
        history: one row per finished epoch. Rows are appended while the training runs.
        previous_epochs: the number of epochs that finished before this attempt.
    """
    if settings.schedule == "cosine":
        return [CosineSchedule(settings.epochs, previous_epochs)]
    return [PlateauSchedule(settings.patience, history)] if settings.schedule == "plateau" else []


def training_callbacks(settings: Training, history: list[dict[str, Any]], previous_epochs: int = 0) -> list[Callback]:
    """The callbacks of every training, by Horovod or as a trial: steps per execution, precision and learning rate.

    Args:
        settings: how the network is trained.
        history: one row per finished epoch. Rows are appended while the training runs.
        previous_epochs: the number of epochs that finished before this attempt.
    """
    return [StepsPerExecution(), Precision(settings.precision), *schedules(settings, history, previous_epochs)]


class StepsPerExecution(Callback):
    """Run several steps per execution if epochs are long. ``KerasEstimator`` has no option for it."""

    def set_params(self, params: dict[str, Any]) -> None:
        super().set_params(params)
        # Keras reads the attribute after this call, when it builds the training function.
        self.model.steps_per_execution = max(1, min(STEPS_PER_EXECUTION, params["steps"] // EXECUTIONS_PER_EPOCH))


class PinCores(Callback):
    """Bind every rank of a host to cores of its own, as MPI does.

    Otherwise a thread that wakes up to sum gradients displaces another rank from its core, and all ranks wait for it.

    Args:
        cores: the number of cores per rank.
    """

    def __init__(self, cores: int) -> None:
        super().__init__()
        self.cores = cores

    def on_train_begin(self, logs: Logs = None) -> None:
        if not hasattr(os, "sched_setaffinity"):  # it exists on Linux only
            return
        allowed = sorted(os.sched_getaffinity(0))
        first = hvd.local_rank() * self.cores % len(allowed)
        for thread in Path("/proc/self/task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), allowed[first : first + self.cores])


class Precision(Callback):
    """Compute in float32, or let oneDNN use bfloat16 where TensorFlow's lists of operations allow it.

    The option outlives a training, and the next training of a Python worker may have another precision. It is
    therefore set in both cases.

    Args:
        precision: either ``float32`` or ``bfloat16``.
    """

    def __init__(self, precision: str) -> None:
        super().__init__()
        self.bfloat16 = precision == "bfloat16"

    def on_train_begin(self, logs: Logs = None) -> None:
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": self.bfloat16})


class ResumeTraining(Callback):
    """Restore the weights and the optimizer's state from a checkpoint, on every rank.

    Args:
        checkpoints: the folder of checkpoints.
        epoch: the epoch to resume after.
    """

    def __init__(self, checkpoints: Checkpoints, epoch: int) -> None:
        super().__init__()
        self.checkpoints = checkpoints
        self.epoch = epoch

    def on_train_begin(self, logs: Logs = None) -> None:
        checkpoint = self.checkpoints.read(self.epoch)
        self.model.set_weights(checkpoint.weights)
        self.model.optimizer.build(self.model.trainable_variables)
        for variable, value in zip(self.model.optimizer.variables(), checkpoint.optimizer, strict=True):
            variable.assign(value)


class EpochEnd(Callback):
    """Add a finished epoch to the history. Rank 0 then runs diagnostics, writes a checkpoint and reports to the driver.

    The checkpoint is written while the next epoch is trained; then the driver is told of the epoch.

    The row of an epoch has the metrics of Keras and:

    - ``seconds``, the duration of the epoch, and ``images_per_second``, the training pictures of all ranks divided by
      the time of the training steps, without validation;
    - ``learning_rate``, the rate of the last step;
    - ``curve``, the training loss of rank 0 within the epoch, in 50 points at most;
    - ``steps``, the times when the executions of the first and the last step ended, in seconds since 1970.

    Args:
        settings: how the network is trained. They determine the last epoch.
        rows: the number of training pictures of all ranks.
        checkpoints: the folder of checkpoints.
        history: one row per finished epoch. This callback appends to it.
        failures: the earlier failures. The last one may have no ``seconds`` yet.
        since: the start of the work that is repeated after the last failure, in seconds since 1970.
        driver: the address of the driver's :func:`~training.cluster.reports.listening`.
        samples: training pictures for the diagnostics. None: diagnostics are switched off.
        trial: the trial of a search. It receives each epoch and may stop the training.
        profile: a callback that runs before this one. Its result is added to the row of its epoch.
        rate: the option that sets the learning rate. Messages name it.
    """

    def __init__(
        self,
        settings: Training,
        rows: int,
        checkpoints: Checkpoints,
        history: list[dict[str, Any]],
        failures: list[dict[str, Any]],
        since: float,
        driver: ReceiverAddress,
        samples: Samples | None = None,
        trial: TrialReporter | None = None,
        profile: Profile | None = None,
        rate: str = "--training.learning-rate",
    ) -> None:
        super().__init__()
        self.settings = settings
        self.rows = rows
        self.checkpoints = checkpoints
        self.history = history
        self.failures = failures
        self.since = since
        self.driver = driver
        self.samples = samples
        self.trial = trial
        self.profile = profile
        self.rate = rate
        self.callback_seconds = 0.0

    def on_train_begin(self, logs: Logs = None) -> None:
        gc.freeze()  # imported modules are never garbage; a collection among them costs every rank a step
        container = os.environ.get("CONTAINER_ID")  # on YARN
        host = socket.gethostname() + (f" ({container})" if container else "")
        hosts = allgather_object(host, name="hosts")
        self.reporter = EpochReporter(self.driver) if hvd.rank() == 0 else None
        self.writer = ThreadPoolExecutor(1)
        atexit.register(self.writer.shutdown)  # if the training fails, the last checkpoint is finished nevertheless
        self.writing: Future[None] | None = None
        if self.failures and "seconds" not in self.failures[-1]:
            self.failures[-1] |= {"seconds": time.time() - self.since, "num_proc": hvd.size()}
        if self.reporter is not None:
            self.probe = Probe(self.model, self.samples) if self.samples is not None else None
            self.reporter.report({"hosts": hosts})

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.epoch_start = time.perf_counter()
        self.training_end: float | None = None
        self.steps, self.totals = [0], [0.0]
        self.first_step: float | None = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.last_step = time.time()
        self.first_step = self.first_step or self.last_step
        # Keras logs the mean over the steps of the epoch so far.
        self.steps.append(batch + 1)
        self.totals.append(logs["loss"] * (batch + 1))
        if self.writing is not None and self.writing.done():
            self._finish_writing()  # an error of the store ends the training at once

    def on_test_begin(self, logs: Logs = None) -> None:
        self.training_end = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        number = len(self.history) + 1
        if problem := divergence(number, logs):
            raise FloatingPointError(f"{problem}: lower {self.rate}")
        epoch_end = time.perf_counter()
        logs["learning_rate"] = float(backend.get_value(self.model.optimizer.lr))
        logs["seconds"] = epoch_end - self.epoch_start
        logs["images_per_second"] = self.rows / ((self.training_end or epoch_end) - self.epoch_start)
        row: dict[str, Any] = {"epoch": number} | {name: float(value) for name, value in logs.items()}
        self.history.append(
            row | {"curve": _means(self.steps, self.totals), "steps": [self.first_step, self.last_step]}
        )
        if self.trial is not None:
            pruned = hvd.rank() == 0 and self.trial.report(row)
            self.history[-1]["pruned"] = broadcast_object(pruned, 0, name="pruned")
        self.model.stop_training = has_finished(self.history, self.settings)
        if self.reporter is None:
            return
        self._add_diagnostics(row, epoch_end - self.epoch_start)
        self._finish_writing()  # before the weights are copied, so that there are never two copies
        optimizer = [variable.numpy() for variable in self.model.optimizer.variables()]
        checkpoint = Checkpoint(
            number, time.time(), [*self.history], self.failures, self.model.get_weights(), optimizer
        )
        self.writing = self.writer.submit(self._write, checkpoint, row, self.reporter)
        self.callback_seconds = time.perf_counter() - epoch_end

    def on_train_end(self, logs: Logs = None) -> None:
        self._finish_writing()

    def _write(self, checkpoint: Checkpoint, row: dict[str, Any], reporter: EpochReporter) -> None:
        self.checkpoints.write(checkpoint)
        reporter.report(row)

    def _finish_writing(self) -> None:
        """Wait for the last checkpoint, and raise the error if it could not be written."""
        if self.writing is not None:
            self.writing.result()

    def _add_diagnostics(self, row: dict[str, Any], seconds: float) -> None:
        """Add the profile and the diagnostics to the history, and the findings to ``row``, for the driver to print."""
        last, number = self.history[-1], row["epoch"]
        if self.profile is not None and self.profile.result is not None:
            training = self.training_end - self.epoch_start if self.training_end else seconds
            durations = {"training": training, "validation": seconds - training, "callbacks": self.callback_seconds}
            last["profile"] = self.profile.result | {"epoch": number, "epoch_seconds": durations}
        if self.probe is not None and self.samples is not None:
            if number & (number - 1) == 0:  # epochs 1, 2, 4, 8, …: later epochs change less
                last["probe"] = self.probe.measure()
            row["findings"] = last["findings"] = findings(self.history, self.samples.class_names, self.rate)


def _means(steps: list[int], totals: list[float]) -> list[float]:
    """The mean increase per step of a running total, between 50 of its points, or between all if there are fewer.

    Args:
        steps: the number of steps after each execution, starting with 0.
        totals: the total after each of them.
    """
    points = np.unique(np.linspace(0, len(steps) - 1, CURVE_POINTS + 1).round().astype(int))
    return (np.diff(np.array(totals)[points]) / np.diff(np.array(steps)[points])).tolist()


class SaveEmptyModel(Callback):
    """Write a minimal model to the file that Horovod reads on rank 0 and returns to the driver.

    The trained weights are in the checkpoints. The network itself would be saved, loaded and built three more times,
    and never used.
    """

    filepath: str  # set by KerasEstimator

    def on_train_end(self, logs: Logs = None) -> None:
        model = Sequential([layers.InputLayer(1), layers.Dense(1)])
        model.compile("sgd", "mse")  # Horovod sets its learning rate
        model.save(self.filepath)
