"""A network trained by Horovod's ``KerasEstimator`` on the processes of a Spark cluster."""

import collections
import functools
import io
import os
import re
import time
from dataclasses import dataclass
from typing import Any

import cloudpickle
import keras
import pandas as pd
from horovod.spark.common.backend import SparkBackend
from horovod.spark.common.store import Store
from horovod.spark.keras import KerasEstimator
from horovod.tensorflow.keras.callbacks import BestModelCheckpoint
from pyspark.sql import SparkSession

import models
from models.callbacks import CosineSchedule, EpochReport
from models.data_module import data_module
from models.errors import TrainingError
from models.networks import NETWORKS
from models.progress import Epoch, epoch_listener
from models.settings import Augmentation, Training
from models.store import LABEL, PIXELS
from preprocessing.schema import VALIDATION

# Horovod starts processes of its own, which do not look where Spark puts a job's packages: what they need of this
# package goes to them with the training.
cloudpickle.register_pickle_by_value(models)

# The first executors of a cluster may take this long to report for work.
SLOT_PATIENCE_SECONDS = 20

# Horovod names the process before each of its lines.
_PREFIX = re.compile(r"^\[\d+\]<\w+>:")
_ERROR = re.compile(r"[\w.]+(Error|Exception)\b")


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with the weights of its best epoch.

    Args:
        model: takes ``uint8`` ``(batch, pixels)``, returns ``float32`` probabilities ``(batch, classes)``.
        history: a row an epoch: ``epoch`` from 1, ``loss``, ``accuracy``, ``precision``, ``recall``, each of them again
            as ``val_…``, all averaged over the ranks, ``seconds`` and ``images_per_second``.
        best_epoch: the epoch of the lowest validation loss.
    """

    model: keras.Model
    history: pd.DataFrame
    best_epoch: int

    def summary(self, settings: Training) -> dict[str, Any]:
        """The figures of the training for ``metrics.json``: those of the kept epoch, and the speed over all."""
        kept = self.history.set_index("epoch").loc[self.best_epoch].drop(["seconds", "images_per_second"])
        return {
            # the harmonic mean: all pictures over all of the time
            "images_per_second": len(self.history) / (1 / self.history["images_per_second"]).sum(),
            "epochs": len(self.history),
            "best_epoch": self.best_epoch,
            "augmented": settings.augmentation != Augmentation(),
            **kept.to_dict(),
        }


def check_slots(spark: SparkSession, num_proc: int) -> None:
    """Make sure that ``num_proc`` tasks can run at the same time, as Horovod's processes must.

    Raises:
        TrainingError: the cluster has fewer free task slots, with both numbers.
    """
    context: Any = spark.sparkContext
    if spark.conf.get("spark.dynamicAllocation.enabled", "false") == "true":
        return  # executors come when tasks wait for them; Horovod's own start timeout is the limit
    deadline = time.monotonic() + (0 if context.master.startswith("local") else SLOT_PATIENCE_SECONDS)
    while True:
        executors = context._jsc.sc().statusStore().executorList(True)
        slots = [executors.apply(i) for i in range(executors.size())]
        total = sum(executor.maxTasks() for executor in slots)
        free = total - sum(executor.activeTasks() for executor in slots)
        if free >= num_proc:
            return
        if time.monotonic() >= deadline:
            raise TrainingError(
                f"--num-proc {num_proc} needs {num_proc} task slots at the same time, {context.master} has {free} free"
                f" of {total}: lower --num-proc, or give Spark more cores"
            )
        time.sleep(0.5)


def train_network(
    spark: SparkSession,
    store: Store,
    name: str,
    settings: Training,
    shape: tuple[int, int, int],
    classes: int,
    rows: int,
    num_proc: int,
    seed: int,
) -> TrainedNetwork:
    """Train on the store's rows with ``num_proc`` Horovod processes.

    Args:
        spark: the session whose executors run the processes.
        store: from :func:`models.store.training_store`.
        name: a key of :data:`models.networks.NETWORKS`.
        settings: how it is trained.
        shape: ``(height, width, channels)`` of a picture.
        classes: the number of classes.
        rows: training rows in the store, for the speed.
        num_proc: Horovod processes.
        seed: of the first weights, the order of the rows and the augmentation.

    Raises:
        TrainingError: a process failed; with the error it ended with.
    """
    keras.utils.set_random_seed(seed)
    output, errors = _LastLines(), _LastLines()
    schedule = [CosineSchedule(settings.epochs)] if settings.schedule == "cosine" else []
    with epoch_listener(spark, functools.partial(_print_epoch, settings.epochs)) as driver:
        estimator = KerasEstimator(
            backend=SparkBackend(num_proc, verbose=0, stdout=output, stderr=errors),
            backend_env=_process_environment(spark, num_proc),
            store=store,
            data_module=data_module(shape, classes, settings.augmentation),
            model=NETWORKS[name](shape, classes),
            optimizer=keras.optimizers.Adam(settings.learning_rate),
            loss=keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing),
            metrics=["accuracy", keras.metrics.Precision(name="precision"), keras.metrics.Recall(name="recall")],
            feature_cols=[PIXELS],
            label_cols=[LABEL],
            validation=VALIDATION,
            callbacks=[*schedule, EpochReport(rows, driver)],
            checkpoint_callback=BestModelCheckpoint(monitor="val_loss"),
            batch_size=int(settings.batch_size),  # Spark ML takes int itself and no subclass
            epochs=int(settings.epochs),
            random_seed=int(seed),
            verbose=0,
        )
        try:
            trained = estimator.fit_on_parquet()
        except Exception as error:
            if not errors.lines:
                raise
            raise TrainingError(f"a Horovod process failed: {errors.failure()}") from error
    history = pd.DataFrame(trained.getHistory())
    history.insert(0, "epoch", range(1, len(history) + 1))
    best = int(history["val_loss"].idxmin())
    # anew from the weights: without the optimizer's state, three times as large, and without Horovod's part in it
    model = NETWORKS[name](shape, classes)
    model.set_weights(trained.getModel().get_weights())
    return TrainedNetwork(model, history, int(history["epoch"][best]))


def _process_environment(spark: SparkSession, num_proc: int) -> dict[str, str]:
    """Threads for each process: all of TensorFlow's on every process would fight for the same cores."""
    context = spark.sparkContext
    if str(context.master).startswith("local"):
        cores = max(1, (os.cpu_count() or 1) // num_proc)
    else:
        cores = int(context.getConf().get("spark.task.cpus", "1"))
    return {"TF_NUM_INTRAOP_THREADS": str(cores), "TF_NUM_INTEROP_THREADS": str(cores)}


def _print_epoch(epochs: int, epoch: Epoch) -> None:
    print(
        f"epoch {epoch['epoch']:>{len(str(epochs))}}/{epochs}"
        f"  loss {epoch['loss']:.4f}  accuracy {epoch['accuracy']:.4f}"
        f"  validation loss {epoch['val_loss']:.4f}  accuracy {epoch['val_accuracy']:.4f}"
        f"  {epoch['images_per_second']:,.0f} images/s",
        flush=True,
    )


class _LastLines(io.TextIOBase):
    """The last lines of what the processes print, for the case that one fails."""

    def __init__(self) -> None:
        self.lines: collections.deque[str] = collections.deque(maxlen=20)
        self.pending = ""

    def write(self, text: str) -> int:
        *lines, self.pending = (self.pending + text).split("\n")
        self.lines.extend(_PREFIX.sub("", line) for line in lines)
        return len(text)

    def failure(self) -> str:
        """The error a process ended with, or else all there is."""
        named = [line for line in self.lines if _ERROR.match(line)]
        return named[-1] if named else "\n".join(self.lines)
