"""A network trained by Horovod's ``KerasEstimator`` on the processes of a Spark cluster, through the loss of some."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import cloudpickle
import keras
import numpy as np
from horovod.runner.common.util.timeout import TimeoutException
from horovod.spark.common.store import Store
from horovod.spark.keras import KerasEstimator
from pyspark.sql import SparkSession

import models
from models.callbacks import (
    Bfloat16,
    EpochEnd,
    GoOn,
    OwnCores,
    SmallModel,
    StepsPerExecution,
    schedules,
)
from models.checkpoints import Checkpoint, Checkpoints
from models.cluster import ExecutorWatch, is_local, network_interfaces, wait_for_slots
from models.data_module import data_module
from models.errors import TrainingError
from models.horovod_backend import PromptBackend, cores_a_process, handled_signals, process_environment
from models.networks import build_network, unfreeze
from models.optimizers import build_loss, build_metrics, build_optimizer
from models.probe import Samples
from models.process_output import EXITED, LastLines
from models.profile import Profile
from models.progress import epoch_listener
from models.progression import has_finished
from models.settings import Network, Training
from models.store import LABEL, PIXELS
from models.trained_network import Loss, TrainedNetwork
from models.trial_server import TrialAddress
from preprocessing.normalisation import Normalisation
from preprocessing.schema import VALIDATION

# Horovod starts processes of its own, which do not look where Spark puts a job's packages: what they need of this
# package goes to them with the training.
cloudpickle.register_pickle_by_value(models)

# All processes have to be there in this time; the slots are known to be free.
START_SECONDS = 120
# Horovod learns of a lost host from its sockets, Spark from the executor's, in either order.
LOSS_SECONDS = 5

Listener = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class NetworkTraining:
    """The training of a network with Horovod processes on Spark's executors.

    Args:
        spark: the session whose executors run the processes.
        store: from :func:`models.store.training_store`.
        checkpoints: where finished epochs are kept; what is there already is gone on from.
        network: which network.
        settings: how it is trained.
        shape: ``(height, width, channels)`` of a picture.
        classes: the number of classes.
        normalisation: of the pixels.
        rows: training rows in the store, for the speed.
        seed: of the first weights, the order of the rows and the augmentation.
        start: weights to begin with; none: they are drawn.
        first_layer: the first one that is trained, see :func:`models.networks.unfreeze`; none: as the network has it.
        samples: training pictures that the watches look at; none: they are off.
        trial: of a search, which is told of each epoch, fine-tuning aside, and may end the training.
        profile: a folder of the store for the recording of some steps; none: they are not recorded.
        listeners: are called on the driver with the figures of each epoch as it ends.
    """

    spark: SparkSession
    store: Store
    checkpoints: Checkpoints
    network: Network
    settings: Training
    shape: tuple[int, int, int]
    classes: int
    normalisation: Normalisation
    rows: int
    seed: int
    start: list[np.ndarray] | None = None
    first_layer: str | None = None
    samples: Samples | None = None
    trial: TrialAddress | None = None
    profile: str | None = None
    listeners: Sequence[Listener] = ()

    @property
    def rate(self) -> str:
        """The option that sets the learning rate."""
        return "--training.learning-rate" if self.first_layer is None else "--training.fine-tuning.learning-rate"

    def run(self, num_proc: int, max_restarts: int) -> TrainedNetwork:
        """Train until all epochs have finished.

        When processes or hosts are lost it goes on from the last finished epoch, with as many processes as the cluster
        can run then, ``num_proc`` at most.

        Raises:
            TrainingError: a process failed, with the error it ended with; or there were more than ``max_restarts``
                losses, or no task slot is left. Finished epochs are kept.
        """
        last = self.checkpoints.last()
        losses, since = (list(last.losses), last.time) if last else ([], time.time())
        if last is not None and not has_finished(last.history, self.settings):
            losses.append(_loss("the driver", last, last.time))
            print(f"going on after epoch {last.epoch} of {self.settings.epochs}", flush=True)
        restarts = 0
        while last is None or not has_finished(last.history, self.settings):
            processes = self._processes(num_proc)
            try:
                self._fit(processes, last, losses, since)
                last = self.checkpoints.last()
                if last is None or not has_finished(last.history, self.settings):
                    raise TrainingError(f"{self.checkpoints.url}: the last epoch's checkpoint is not there")
                losses = last.losses
            except _ProcessLostError as lost:
                reached, last = last.epoch if last else 0, self.checkpoints.last()
                if last is not None and last.epoch > reached:
                    losses, since = list(last.losses), last.time
                elif losses and "seconds" not in losses[-1]:  # lost again before an epoch had finished
                    losses[-1] |= {"seconds": time.time() - since, "num_proc": processes}
                    since = time.time()
                restarts += 1
                losses.append(_loss(str(lost), last, time.time()))
                self._say_loss(restarts, max_restarts, losses[-1])
        if losses and "seconds" not in losses[-1]:
            losses[-1] |= {"seconds": 0.0, "num_proc": num_proc}
        return self._best(last, losses)

    def _model(self, weights: list[np.ndarray] | None) -> keras.Model:
        """The network with these weights, or those it begins with."""
        keras.utils.set_random_seed(self.seed)
        network = self.network if weights is None else dataclasses.replace(self.network, weights="none")
        model = build_network(network, self.shape, self.classes, self.normalisation)
        if weights is not None:
            model.set_weights(weights)
        if self.first_layer is not None:
            unfreeze(model, self.first_layer)
        return model

    def _say_loss(self, restarts: int, max_restarts: int, loss: Loss) -> None:
        said = f"lost {loss['what']}, {loss['after_epoch']} of {self.settings.epochs} epochs have finished"
        if restarts > max_restarts:
            raise TrainingError(f"{said}; that was loss {restarts}, and --max-restarts is {max_restarts}")
        print(f"{said}; restart {restarts} of {max_restarts}", flush=True)

    def _processes(self, wanted: int) -> int:
        """As many as are wanted, or as the cluster can run."""
        free, _ = wait_for_slots(self.spark, wanted)
        if free == 0:
            raise TrainingError(f"no task slot is left on {self.spark.sparkContext.master}")
        return min(free, wanted)

    def _fit(self, num_proc: int, last: Checkpoint | None, losses: list[Loss], since: float) -> None:
        """One attempt, from ``last`` to the end. Raises :class:`_ProcessLostError` when others are worth it."""
        done = last.epoch if last else 0
        history = last.history if last else []
        errors = LastLines()
        checkpoints = self.checkpoints.claim()
        cores = cores_a_process(self.spark, num_proc)
        watch = ExecutorWatch(self.spark)
        with epoch_listener(self.spark, self._hear) as driver:
            callbacks = self._callbacks(cores, checkpoints, done, history)
            profile = Profile(self.profile) if self.profile is not None else None
            callbacks += [profile] if profile is not None else []
            callbacks.append(
                EpochEnd(
                    self.settings, self.rows, checkpoints, history, losses, since, driver, self.samples, self.trial,
                    profile, self.rate,
                )
            )  # fmt: skip
            estimator = self._estimator(num_proc, cores, done, callbacks, errors)
            try:
                with handled_signals(), watch:
                    estimator.fit_on_parquet()
            except Exception as error:
                lost = watch.wait(LOSS_SECONDS)
                if lost:
                    raise _ProcessLostError(", ".join(lost)) from error
                if errors.named:
                    raise TrainingError(f"a Horovod process failed: {errors.named[-1]}") from error
                if status := EXITED.search(str(error)):
                    said = f", {errors.lines[-1]}" if errors.lines else ""
                    raise _ProcessLostError(f"a process (exit status {status[1]}{said})") from error
                if isinstance(error, TimeoutException):
                    raise TrainingError(f"Horovod: {error}") from error
                raise

    def _estimator(
        self, num_proc: int, cores: int, done: int, callbacks: list[keras.callbacks.Callback], errors: LastLines
    ) -> KerasEstimator:
        timeline = {"HOROVOD_TIMELINE": "DYNAMIC"} if self.profile is not None else {}
        return KerasEstimator(
            backend=PromptBackend(
                num_proc,
                verbose=0,
                stdout=LastLines(),
                stderr=errors,
                start_timeout=START_SECONDS,
                nics=network_interfaces(self.spark),
            ),
            backend_env=process_environment(cores) | timeline,
            store=self.store,
            data_module=data_module(self.shape, self.classes, self.settings.augmentation),
            model=self._model(self.start),
            optimizer=build_optimizer(self.settings.optimizer, self.settings.learning_rate),
            loss=build_loss(self.settings),
            metrics=build_metrics(),
            feature_cols=[PIXELS],
            label_cols=[LABEL],
            validation=VALIDATION,
            callbacks=callbacks,
            checkpoint_callback=SmallModel(),
            batch_size=int(self.settings.batch_size),  # Spark ML takes int itself and no subclass
            epochs=int(self.settings.epochs) - done,
            # rows in another order than those of the epochs before
            random_seed=int(self.seed) + 1000 * done,
            verbose=0,
        )

    def _hear(self, message: dict[str, Any]) -> None:
        _say(self.settings.epochs, message)
        if "epoch" in message:
            for listener in self.listeners:
                try:
                    listener(message)
                except Exception as error:  # the next epoch is to be heard of all the same
                    print(f"warning: an epoch was not handed on: {type(error).__name__}: {error}", flush=True)

    def _callbacks(
        self, cores: int, checkpoints: Checkpoints, done: int, history: list[dict[str, Any]]
    ) -> list[keras.callbacks.Callback]:
        """Those that set a rank up and give it its learning rate."""
        callbacks: list[keras.callbacks.Callback] = [StepsPerExecution()]
        if done:
            callbacks.append(GoOn(checkpoints, done))
        if is_local(self.spark):
            callbacks.append(OwnCores(cores))
        if self.settings.precision == "bfloat16":
            callbacks.append(Bfloat16())
        callbacks += schedules(self.settings, history, done)
        return callbacks

    def _best(self, last: Checkpoint, losses: list[Loss]) -> TrainedNetwork:
        # anew from the weights: without the optimizer's state, three times as large, and without Horovod's part in it
        model = self._model(self.checkpoints.read(last.best_epoch).weights)
        return TrainedNetwork.of(last.history, model, losses)


def train(training: NetworkTraining, num_proc: int, max_restarts: int) -> TrainedNetwork:
    """Train a network, and fine-tune it where the experiment says so: the epochs of both in one history."""
    trained = training.run(num_proc, max_restarts)
    tuning = training.settings.fine_tuning
    if tuning is None or trained.pruned:
        return trained
    print(f"fine-tuning from {tuning.layer} on", flush=True)
    before = len(trained.history)

    def renumbered(listener: Listener) -> Listener:
        return lambda row: listener(row | {"epoch": row["epoch"] + before})

    tuned = dataclasses.replace(
        training,
        checkpoints=Checkpoints(f"{training.checkpoints.url}-fine-tuning"),
        settings=dataclasses.replace(
            training.settings, epochs=tuning.epochs, learning_rate=tuning.learning_rate, fine_tuning=None
        ),
        start=trained.model.get_weights(),
        first_layer=tuning.layer,
        trial=None,
        profile=None,
        listeners=[renumbered(listener) for listener in training.listeners],
    ).run(num_proc, max_restarts)
    return trained.followed_by(tuned)


class _ProcessLostError(Exception):
    """A process ended that had done nothing wrong."""


def _loss(what: str, last: Checkpoint | None, when: float) -> Loss:
    moment = f"{datetime.fromtimestamp(when, UTC):%Y-%m-%d %H:%M:%S} UTC"
    return {"what": what, "time": moment, "after_epoch": last.epoch if last else 0}


def _say(epochs: int, told: dict[str, Any]) -> None:
    if "hosts" in told:
        ranks = ", ".join(f"rank {rank} on {host}" for rank, host in enumerate(told["hosts"]))
        print(f"training: {ranks}", flush=True)
        return
    epoch = told
    print(
        f"epoch {epoch['epoch']:>{len(str(epochs))}}/{epochs}"
        f"  loss {epoch['loss']:.4f}  accuracy {epoch['accuracy']:.4f}"
        f"  validation loss {epoch['val_loss']:.4f}  accuracy {epoch['val_accuracy']:.4f}"
        f"  {epoch['images_per_second']:,.0f} images/s",
        flush=True,
    )
    for finding in epoch.get("findings", []):
        print(f"watch: {finding['watch']}: {finding['sentence']}", flush=True)
