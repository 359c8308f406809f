"""A network trained by Horovod's ``KerasEstimator`` on the processes of a Spark cluster."""

import collections
import io
import os
import re
import sys
import time
from dataclasses import dataclass
from typing import Any

import keras
import pandas as pd
from horovod.spark.common.backend import SparkBackend
from horovod.spark.common.store import Store
from horovod.spark.keras import KerasEstimator
from horovod.tensorflow.keras.callbacks import BestModelCheckpoint
from pyspark.sql import SparkSession

from models.callbacks import CosineSchedule, EpochReport
from models.data_module import data_module
from models.errors import TrainingError
from models.networks import NETWORKS
from models.settings import Training
from models.store import LABEL, PIXELS
from preprocessing.schema import VALIDATION

# The first executors of a cluster may take this long to report for work.
SLOT_PATIENCE_SECONDS = 20
_PREFIX = re.compile(r"^\[(\d+)\]<\w+>:")


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
        TrainingError: too few task slots, or a process failed; with what it said last.
    """
    check_slots(spark, num_proc)
    keras.utils.set_random_seed(seed)
    output, errors = _RankOutput(sys.stdout), _RankOutput(None)
    schedule = [CosineSchedule(settings.epochs)] if settings.schedule == "cosine" else []
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
        callbacks=[*schedule, EpochReport(settings.epochs, rows)],
        checkpoint_callback=BestModelCheckpoint(monitor="val_loss"),
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        random_seed=seed,
        verbose=0,
    )
    try:
        trained = estimator.fit_on_parquet()
    except Exception as error:
        said = "\n".join(errors.last) or str(error)
        raise TrainingError(f"a Horovod process failed; it said:\n{said}") from error
    history = pd.DataFrame(trained.getHistory())
    history.insert(0, "epoch", range(1, len(history) + 1))
    best = int(history["val_loss"].idxmin())
    return TrainedNetwork(trained.getModel(), history, int(history["epoch"][best]))


def _process_environment(spark: SparkSession, num_proc: int) -> dict[str, str]:
    """Threads for each process: all of TensorFlow's on every process would fight for the same cores."""
    context = spark.sparkContext
    if context.master.startswith("local"):
        cores = max(1, (os.cpu_count() or 1) // num_proc)
    else:
        cores = int(context.getConf().get("spark.task.cpus", "1"))
    return {"TF_NUM_INTRAOP_THREADS": str(cores), "TF_NUM_INTEROP_THREADS": str(cores)}


class _RankOutput(io.TextIOBase):
    """What the processes print: rank 0's lines go on to ``target``, the last lines of all are kept."""

    def __init__(self, target: Any) -> None:
        self.target = target
        self.last: collections.deque[str] = collections.deque(maxlen=20)
        self.pending = ""

    def write(self, text: Any) -> int:
        text = text.decode(errors="replace") if isinstance(text, bytes) else text
        *lines, self.pending = (self.pending + text).split("\n")
        for line in lines:
            rank = _PREFIX.match(line)
            message = line[rank.end() :] if rank else line
            self.last.append(message)
            if self.target is not None and (rank is None or rank[1] == "0"):
                print(message, file=self.target, flush=True)
        return len(text)
