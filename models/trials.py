"""One trial of a search: a network trained in a Spark task, which reports each epoch and may be stopped."""

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

from models.callbacks import Logs, StepsPerExecution, schedules
from models.cnn import NetworkTraining, train
from models.data_module import ShardDataModule
from models.errors import TrainingError
from models.networks import build_network
from models.optimizers import build_loss, build_metrics, build_optimizer
from models.progression import best_epoch, has_finished
from models.settings import Network, Training
from models.store import Part
from models.trial_server import TrialAddress
from preprocessing.normalisation import Normalisation
from preprocessing.schema import TRAIN, VALIDATION


@dataclass(frozen=True)
class TrialTask:
    """What a trial is, as its Spark task gets it.

    Args:
        trial: where it reports.
        network: which network.
        training: how it is trained, by one process.
        shape: ``(height, width, channels)`` of a picture.
        classes: how many.
        normalisation: of the pixels.
        parts: what it is trained on, one after the other; with several the metric is their mean.
        seed: of the first weights, the order of the rows and the augmentation.
        cores: for it alone.
    """

    trial: TrialAddress
    network: Network
    training: Training
    shape: tuple[int, int, int]
    classes: int
    normalisation: Normalisation
    parts: list[Part]
    seed: int
    cores: int

    def run(self, spark: SparkSession) -> "TrialResult":
        """Train on whichever executor has a slot; on another one, from the beginning, when that one is lost."""
        try:
            return spark.sparkContext.parallelize([self], 1).map(_train).collect()[0]
        except Py4JJavaError as error:
            text = str(error.java_exception)
            if "cancelled" in text or "shut down" in text:
                raise
            said = next((line for line in text.splitlines() if "Lost task" in line), text.splitlines()[0])
            return TrialResult(None, 0, failure=f"its process was lost: {said.rpartition('Lost task')[2].strip()}")


@dataclass(frozen=True)
class TrialResult:
    """How a trial has ended.

    Args:
        value: the metric at the epoch with the lowest validation loss; none: it has failed.
        epochs: that have finished.
        pruned: whether it was stopped, as others had been better by then.
        failure: why it has failed.
    """

    value: float | None
    epochs: int
    pruned: bool = False
    failure: str | None = None


def train_trial(training: NetworkTraining, num_proc: int, max_restarts: int) -> TrialResult:
    """Train with Horovod; what goes wrong is the trial's failure."""
    try:
        trained = train(training, num_proc, max_restarts)
    except TrainingError as error:
        return TrialResult(None, 0, failure=str(error))
    assert training.trial is not None
    row = trained.history.iloc[trained.best_epoch - 1]
    return TrialResult(float(row[training.trial.metric]), len(trained.history), trained.pruned)


class TrialEnd(Callback):
    """What follows an epoch of a trial: it is reported, unless the trial has others to come, and the trial may end."""

    def __init__(self, settings: Training, trial: TrialAddress | None, history: list[dict[str, Any]]) -> None:
        super().__init__()
        self.settings = settings
        self.trial = trial
        self.history = history

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        row: dict[str, Any] = {"epoch": epoch + 1} | {name: float(value) for name, value in (logs or {}).items()}
        if not tf.math.is_finite(row["loss"]) or not tf.math.is_finite(row["val_loss"]):
            raise FloatingPointError(f"diverged: the loss of epoch {row['epoch']} is {row['loss']}")
        self.history.append(row)
        row["pruned"] = self.trial is not None and self.trial.report(row)
        self.model.stop_training = has_finished(self.history, self.settings)


def _train(task: TrialTask) -> TrialResult:
    """In a Python worker of Spark's, which has had trials before and will have others."""
    epochs, values, pruned = 0, [], False
    history: list[dict[str, Any]] = []
    single = len(task.parts) == 1
    try:
        with suppress(RuntimeError):  # set by the worker's first trial
            tf.config.threading.set_intra_op_parallelism_threads(task.cores)
            tf.config.threading.set_inter_op_parallelism_threads(task.cores)
        for number, part in enumerate(task.parts, 1):
            history = []
            keras.backend.clear_session()
            gc.collect()  # what another training has left
            ctypes.CDLL(None).malloc_trim(0)  # and what the C library keeps of it, on top of which this one would come
            keras.utils.set_random_seed(task.seed)
            with redirect_stdout(io.StringIO()):  # Petastorm says when it has read a file
                _fit(task, part, TrialEnd(task.training, task.trial if single else None, history), history)
            values.append(history[best_epoch(history) - 1][task.trial.metric])
            epochs, last, history = epochs + len(history), history[-1], []
            mean = sum(values) / len(values)
            pruned = last["pruned"] if single else task.trial.report({"epoch": number, task.trial.metric: mean})
            if pruned:
                break
    except FloatingPointError as error:
        return TrialResult(None, epochs + len(history), failure=str(error))
    except Exception as error:  # the study goes on, and names it
        first = next(iter(str(error).splitlines()), "")
        return TrialResult(None, epochs + len(history), failure=f"{type(error).__name__}: {first}")
    return TrialResult(mean, epochs, pruned)


def _fit(task: TrialTask, part: Part, end: TrialEnd, history: list[dict[str, Any]]) -> None:
    settings, batch = task.training, int(task.training.batch_size)
    model = build_network(task.network, task.shape, task.classes, task.normalisation)
    optimizer = build_optimizer(settings.optimizer, settings.learning_rate)
    # One process has nothing to add up. Keras would do so by a function whose gradient TensorFlow keeps for as long as
    # the worker lives, and with it the graph of the training: 20 MB each.
    optimizer.aggregate_gradients = lambda gradients: gradients
    model.compile(optimizer, build_loss(settings), build_metrics())
    data = ShardDataModule(
        task.shape, task.classes, settings.augmentation, task.seed,
        train_dir=part.paths[TRAIN], val_dir=part.paths[VALIDATION], train_batch_size=batch, val_batch_size=batch,
    )  # fmt: skip
    # the worker's next trial may be of another kind
    one_dnn = {"auto_mixed_precision_onednn_bfloat16": settings.precision == "bfloat16"}
    tf.config.optimizer.set_experimental_options(one_dnn)
    model.fit(
        data.train_data(),
        validation_data=data.val_data(),
        steps_per_epoch=max(1, part.rows[TRAIN] // batch),
        validation_steps=-(-part.rows[VALIDATION] // batch),
        epochs=settings.epochs,
        callbacks=[StepsPerExecution(), *schedules(settings, history), end],
        verbose=0,
    )
