"""What happens between a training's steps and epochs, on every rank."""

import gc
import math
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import horovod.tensorflow.keras as hvd
import numpy as np
import tensorflow as tf
from horovod.tensorflow.functions import allgather_object, broadcast_object
from keras import Sequential, backend, layers
from keras.callbacks import Callback

from models.checkpoints import Checkpoint, Checkpoints
from models.probe import Probe, Samples
from models.profile import Profile
from models.progress import Address, Teller
from models.progression import has_finished, plateau_factor
from models.settings import Training
from models.trial_server import TrialAddress
from models.watches import findings

Logs = dict[str, float] | None
CURVE_POINTS = 50
# Steps that TensorFlow makes before it returns to Python, where that leaves an epoch so many executions: after each all
# ranks wait for the slowest.
STEPS_PER_EXECUTION, EXECUTIONS_AN_EPOCH = 4, 25


class CosineSchedule(Callback):
    """The learning rate up along a line in the first epoch, then down to 0 along half a cosine.

    The rise is for the large batches of many processes (Goyal et al., 2017), the fall after Loshchilov and Hutter,
    2016. The peak is the rate the model is compiled with, times the number of processes. Steps of one execution
    have the rate of their first one.

    Args:
        epochs: of the whole training.
        done: how many of them have finished before; in place and number of processes they may have been others.
    """

    def __init__(self, epochs: int, done: int = 0) -> None:
        super().__init__()
        self.epochs = epochs
        self.done = done

    def on_train_begin(self, logs: Logs = None) -> None:
        self.peak = float(backend.get_value(self.model.optimizer.lr))

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.epoch = self.done + epoch

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        steps = self.params["steps"]
        step = self.epoch * steps + batch
        rise = steps if self.epochs > 1 else 0
        if step < rise:
            rate = self.peak * (step + 1) / rise
        else:
            share = (step - rise) / (steps * self.epochs - rise)
            rate = self.peak * (1 + math.cos(math.pi * share)) / 2
        backend.set_value(self.model.optimizer.lr, rate)


class PlateauSchedule(Callback):
    """The learning rate halved whenever the validation loss has not fallen for some epochs.

    Args:
        patience: how many.
        history: a row for each epoch that has finished; it grows.
    """

    def __init__(self, patience: int, history: list[dict[str, Any]]) -> None:
        super().__init__()
        self.patience = patience
        self.history = history

    def on_train_begin(self, logs: Logs = None) -> None:
        self.peak = float(backend.get_value(self.model.optimizer.lr))

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        backend.set_value(self.model.optimizer.lr, self.peak * plateau_factor(self.history, self.patience))


def schedules(settings: Training, history: list[dict[str, Any]], done: int = 0) -> list[Callback]:
    """What moves the learning rate, if anything does.

    Args:
        settings: of the training.
        history: a row for each epoch that has finished; it grows.
        done: how many epochs have finished before.
    """
    if settings.schedule == "cosine":
        return [CosineSchedule(settings.epochs, done)]
    return [PlateauSchedule(settings.patience, history)] if settings.schedule == "plateau" else []


class StepsPerExecution(Callback):
    """Every rank makes several steps in one execution where epochs are long; ``KerasEstimator`` cannot be told to."""

    def set_params(self, params: dict[str, Any]) -> None:
        super().set_params(params)
        # Keras reads it when the model and its data are bound, which comes next
        self.model.steps_per_execution = max(1, min(STEPS_PER_EXECUTION, params["steps"] // EXECUTIONS_AN_EPOCH))


class OwnCores(Callback):
    """Every rank of a host keeps to cores of its own, as MPI's do.

    Threads that wake to sum gradients would otherwise push the other rank from its core, and everybody waits for it.

    Args:
        cores: of each rank.
    """

    def __init__(self, cores: int) -> None:
        super().__init__()
        self.cores = cores

    def on_train_begin(self, logs: Logs = None) -> None:
        if not hasattr(os, "sched_setaffinity"):  # only Linux has it
            return
        allowed = sorted(os.sched_getaffinity(0))
        first = hvd.local_rank() * self.cores % len(allowed)
        for thread in Path("/proc/self/task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), allowed[first : first + self.cores])


class Bfloat16(Callback):
    """Every rank lets oneDNN compute in bfloat16 where TensorFlow's own lists say that it may."""

    def on_train_begin(self, logs: Logs = None) -> None:
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})


class GoOn(Callback):
    """Every rank takes up a training where a checkpoint left it: weights and the optimizer's state."""

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
    """What follows an epoch: its seconds and speed join the history; rank 0 looks whether anything is wrong, keeps a
    checkpoint, then tells the driver.

    ``images_per_second`` counts the training pictures of all ranks over the time of the training steps alone,
    ``learning_rate`` is that of the last step, ``curve`` the loss on the way, rank 0's, in 50 points at most, ``steps``
    when the executions of the first and the last step ended, in seconds since 1970.

    Args:
        settings: say when the training ends.
        rows: training pictures of all ranks.
        checkpoints: where they go.
        history: a row for each epoch that has finished before.
        losses: what was lost before; the last of them has no ``seconds`` yet.
        since: when what has to be done again had begun, in seconds since 1970.
        driver: who is told.
        samples: training pictures for the watches; none: they are off.
        trial: of a search, which is told of each epoch and may end the training.
        profile: a callback before this one; what it finds joins the history of its epoch.
        rate: the option that sets the learning rate, for a message to name.
    """

    def __init__(
        self,
        settings: Training,
        rows: int,
        checkpoints: Checkpoints,
        history: list[dict[str, Any]],
        losses: list[dict[str, Any]],
        since: float,
        driver: Address,
        samples: Samples | None = None,
        trial: TrialAddress | None = None,
        profile: Profile | None = None,
        rate: str = "--training.learning-rate",
    ) -> None:
        super().__init__()
        self.settings = settings
        self.rows = rows
        self.checkpoints = checkpoints
        self.history = history
        self.losses = losses
        self.since = since
        self.driver = driver
        self.samples = samples
        self.trial = trial
        self.profile = profile
        self.rate = rate
        self.after = 0.0

    def on_train_begin(self, logs: Logs = None) -> None:
        gc.freeze()  # all that has been imported is no garbage: looking through it again costs every rank a step
        hosts = allgather_object(socket.gethostname(), name="hosts")
        self.teller = Teller(self.driver) if hvd.rank() == 0 else None
        if self.losses and "seconds" not in self.losses[-1]:
            self.losses[-1] |= {"seconds": time.time() - self.since, "num_proc": hvd.size()}
        if self.teller is not None:
            self.probe = Probe(self.model, self.samples) if self.samples is not None else None
            self.teller.tell({"hosts": hosts})

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.begin = time.perf_counter()
        self.trained: float | None = None
        self.steps, self.totals = [0], [0.0]
        self.first_step: float | None = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.last_step = time.time()
        self.first_step = self.first_step or self.last_step
        # Keras tells the mean since the epoch began
        self.steps.append(batch + 1)
        self.totals.append(logs["loss"] * (batch + 1))

    def on_test_begin(self, logs: Logs = None) -> None:
        self.trained = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        number = len(self.history) + 1
        if not math.isfinite(logs["loss"]):
            raise FloatingPointError(f"the loss of epoch {number} is {logs['loss']}: lower {self.rate}")
        if math.isnan(logs["val_loss"]):  # the best epoch could not be told any more; from infinity there is a way back
            raise FloatingPointError(f"the validation loss of epoch {number} is nan: lower {self.rate}")
        now = time.perf_counter()
        logs["learning_rate"] = float(backend.get_value(self.model.optimizer.lr))
        logs["seconds"] = now - self.begin
        logs["images_per_second"] = self.rows / ((self.trained or now) - self.begin)
        row: dict[str, Any] = {"epoch": number} | {name: float(value) for name, value in logs.items()}
        self.history.append(
            row | {"curve": _means(self.steps, self.totals), "steps": [self.first_step, self.last_step]}
        )
        if self.trial is not None:
            pruned = hvd.rank() == 0 and self.trial.report(row)
            self.history[-1]["pruned"] = broadcast_object(pruned, 0, name="pruned")
        self.model.stop_training = has_finished(self.history, self.settings)
        if self.teller is None:
            return
        self._look(row, now - self.begin)
        optimizer = [variable.numpy() for variable in self.model.optimizer.variables()]
        self.checkpoints.write(
            Checkpoint(number, time.time(), self.history, self.losses, self.model.get_weights(), optimizer)
        )
        self.teller.tell(row)
        self.after = time.perf_counter() - now

    def _look(self, row: dict[str, Any], seconds: float) -> None:
        """Put what the profile and the watches say into the history, and what the driver is to hear into ``row``."""
        last, number = self.history[-1], row["epoch"]
        if self.profile is not None and self.profile.found is not None:
            training = self.trained - self.begin if self.trained else seconds
            spent = {"training": training, "validation": seconds - training, "callbacks": self.after}
            last["profile"] = self.profile.found | {"epoch": number, "epoch_seconds": spent}
        if self.probe is not None and self.samples is not None:
            if number & (number - 1) == 0:  # later epochs change less: 1, 2, 4, 8, …
                last["probe"] = self.probe.look()
            row["findings"] = last["findings"] = findings(self.history, self.samples.classes, self.rate)


def _means(steps: list[int], totals: list[float]) -> list[float]:
    """The mean step between 50 points of a running total, or between all of them where they are fewer."""
    points = np.unique(np.linspace(0, len(steps) - 1, CURVE_POINTS + 1).round().astype(int))
    return (np.diff(np.array(totals)[points]) / np.diff(np.array(steps)[points])).tolist()


class SmallModel(Callback):
    """The file that rank 0 reads again and Horovod hands back to the driver.

    It holds next to nothing: what was trained is in the checkpoints, and a network would be saved, loaded and built
    three times more for nobody.
    """

    filepath: str  # set by KerasEstimator

    def on_train_end(self, logs: Logs = None) -> None:
        model = Sequential([layers.InputLayer(1), layers.Dense(1)])
        model.compile("sgd", "mse")  # Horovod sets its learning rate
        model.save(self.filepath)
