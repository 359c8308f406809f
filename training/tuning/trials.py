"""One trial of a search: a network is trained in a Spark task, which reports each epoch and may be pruned."""

import ctypes
import gc
import io
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from keras.callbacks import Callback
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from models.errors import TrainingError
from models.optimizers import compile_arguments
from preprocessing.schema import TRAIN, VALIDATION
from training.callbacks import Logs, training_callbacks
from training.cluster.reports import TrialReporter
from training.data_module import ShardDataModule
from training.initial_network import InitialNetwork
from training.progression import best_epoch, divergence, has_finished
from training.store import Part
from training.trainer import NetworkTraining, train
from training.training_settings import Training


@dataclass(frozen=True)
class TrialTask:
    """The settings of a trial, sent to its Spark task.

    Args:
        trial: the reporter of the trial.
        initial: the network that the trial starts from.
        training: how the network is trained, by a single process.
        parts: the data sets to train on, one after the other. With several, the metric is their mean.
        seed: the seed of the order of the rows and the augmentation.
        cores: the number of cores that the trial may use.
    """

    trial: TrialReporter
    initial: InitialNetwork
    training: Training
    parts: list[Part]
    seed: int
    cores: int

    def run(self, spark: SparkSession) -> "TrialResult":
        """Train on any executor with a free slot. If the executor is lost, Spark restarts the trial on another one."""
        try:
            return spark.sparkContext.parallelize([self], 1).map(_train).collect()[0]
        except Py4JJavaError as error:
            message = str(error.java_exception)
            if "cancelled" in message or "shut down" in message:
                raise
            loss = next((line for line in message.splitlines() if "Lost task" in line), message.splitlines()[0])
            return TrialResult(None, 0, failure=f"its process was lost: {loss.rpartition('Lost task')[2].strip()}")


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial.

    Args:
        value: the metric at the epoch with the lowest validation loss. None: the trial has failed.
        epochs: the number of finished epochs.
        pruned: whether the trial was stopped early because earlier trials were better at the same epoch.
        failure: the reason for the failure. None: the trial has not failed.
    """

    value: float | None
    epochs: int
    pruned: bool = False
    failure: str | None = None


def train_trial(training: NetworkTraining, num_proc: int, max_restarts: int) -> TrialResult:
    """Train a trial with Horovod. A :class:`~models.errors.TrainingError` becomes the failure of the trial."""
    try:
        trained = train(training, num_proc, max_restarts)
    except TrainingError as error:
        return TrialResult(None, 0, failure=str(error))
    assert training.trial is not None
    row = trained.history.iloc[trained.best_epoch - 1]
    return TrialResult(float(row[training.trial.metric]), len(trained.history), trained.pruned)


class TrialEnd(Callback):
    """Add the finished epoch to the history, report it and stop the training if it has finished or is pruned.

    Args:
        settings: how the network is trained.
        trial: the reporter of the trial. None: epochs are not reported, since the trial has several folds.
        history: one row per finished epoch. This callback appends to it.
    """

    def __init__(self, settings: Training, trial: TrialReporter | None, history: list[dict[str, Any]]) -> None:
        super().__init__()
        self.settings = settings
        self.trial = trial
        self.history = history

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        row: dict[str, Any] = {"epoch": epoch + 1} | {name: float(value) for name, value in (logs or {}).items()}
        if problem := divergence(epoch + 1, row):
            raise FloatingPointError(f"diverged: {problem}")
        self.history.append(row)
        row["pruned"] = self.trial is not None and self.trial.report(row)
        self.model.stop_training = has_finished(self.history, self.settings)


def _train(task: TrialTask) -> TrialResult:
    """Train a trial in a Python worker of Spark, which may run several trials one after the other."""
    epochs, values, pruned = 0, [], False
    history: list[dict[str, Any]] = []
    single = len(task.parts) == 1
    try:
        with suppress(RuntimeError):  # only the first trial of a worker can set the threads
            tf.config.threading.set_intra_op_parallelism_threads(task.cores)
            tf.config.threading.set_inter_op_parallelism_threads(task.cores)
        for fold, part in enumerate(task.parts, 1):
            history = []
            keras.backend.clear_session()
            gc.collect()  # free the memory of the previous training
            ctypes.CDLL(None).malloc_trim(0)  # and return what the C library keeps of it to the operating system
            with redirect_stdout(io.StringIO()):  # Petastorm prints a line for each file it has read
                _fit(task, part, TrialEnd(task.training, task.trial if single else None, history), history)
            values.append(history[best_epoch(history) - 1][task.trial.metric])
            epochs, last_row, history = epochs + len(history), history[-1], []
            mean = sum(values) / len(values)
            pruned = last_row["pruned"] if single else task.trial.report({"epoch": fold, task.trial.metric: mean})
            if pruned:
                break
    except FloatingPointError as error:
        return TrialResult(None, epochs + len(history), failure=str(error))
    except Exception as error:  # the study continues and records the failure
        first_line = next(iter(str(error).splitlines()), "")
        return TrialResult(None, epochs + len(history), failure=f"{type(error).__name__}: {first_line}")
    return TrialResult(mean, epochs, pruned)


def _fit(task: TrialTask, part: Part, end: TrialEnd, history: list[dict[str, Any]]) -> None:
    settings, batch = task.training, int(task.training.batch_size)
    model = task.initial.build()
    arguments = compile_arguments(settings.optimizer, settings.learning_rate, settings.label_smoothing)
    # A single process has no gradients to aggregate. Keras would still call a function to do so, and TensorFlow keeps
    # its gradient for the lifetime of the worker, together with the graph of the training: 20 MB per training.
    arguments["optimizer"].aggregate_gradients = lambda gradients: gradients
    model.compile(**arguments)
    data = ShardDataModule(
        task.initial.shape, task.initial.num_classes, settings.augmentation, task.seed,
        train_dir=part.paths[TRAIN], val_dir=part.paths[VALIDATION], train_batch_size=batch, val_batch_size=batch,
    )  # fmt: skip
    model.fit(
        data.train_data(),
        validation_data=data.val_data(),
        steps_per_epoch=max(1, part.rows[TRAIN] // batch),
        validation_steps=-(-part.rows[VALIDATION] // batch),
        epochs=settings.epochs,
        callbacks=[*training_callbacks(settings, history), end],
        verbose=0,
    )
