"""Fault-tolerant training of a network on a Spark cluster, with Horovod's ``KerasEstimator``."""

import dataclasses
import gc
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import cloudpickle
import keras
from horovod.runner.common.util.timeout import TimeoutException
from horovod.spark.common.store import Store
from horovod.spark.keras import KerasEstimator
from pyspark.sql import SparkSession

import evaluation
import models
import training
from models.errors import TrainingError
from models.optimizers import compile_arguments
from preprocessing.schema import VALIDATION
from training.callbacks import (
    EpochEnd,
    PinCores,
    ResumeTraining,
    SaveEmptyModel,
    training_callbacks,
)
from training.checkpoints import Checkpoint, Checkpoints
from training.cluster.horovod_backend import NoWaitBackend, cores_a_process, handled_signals, process_environment
from training.cluster.hosts import ExecutorMonitor, is_local, network_interfaces, wait_for_slots
from training.cluster.process_output import EXITED, LastLines
from training.cluster.reports import TrialReporter, listening
from training.data_module import data_module
from training.diagnostics.probe import Samples
from training.diagnostics.profiler import Profile
from training.initial_network import InitialNetwork
from training.progression import has_finished
from training.store import LABEL, PIXELS
from training.trained_network import Failure, TrainedNetwork
from training.training_settings import Augmentation, Training

LOGGER = logging.getLogger("handshape")

# Horovod starts processes of its own, which do not import from the folder where Spark puts a job's packages. The code
# they need is therefore pickled together with the training.
cloudpickle.register_pickle_by_value(evaluation)
cloudpickle.register_pickle_by_value(models)
cloudpickle.register_pickle_by_value(training)

# All processes must have started within this time. Their task slots are known to be free.
START_SECONDS = 120
# Horovod detects a lost host by its own sockets and Spark by those of the executor. Either can be the first.
LOSS_SECONDS = 5

Listener = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class NetworkTraining:
    """The training of a network with Horovod processes on Spark's executors.

    Args:
        spark: the session whose executors run the processes.
        store: the store, from :func:`training.store.training_store`.
        checkpoints: the folder of checkpoints. Training resumes from the last one, if there is any.
        initial: the network that the training starts from.
        settings: how the network is trained.
        rows: the number of training rows in the store, to compute the speed.
        seed: the seed of the order of the rows and the augmentation.
        samples: training pictures for the diagnostics. None: diagnostics are switched off.
        trial: the trial of a search. It receives each epoch, except those of fine-tuning, and may stop the training.
        profile: a folder of the store where some recorded steps are written. None: no steps are recorded.
        listeners: functions that are called on the driver with the metrics of each epoch when it ends.
    """

    spark: SparkSession
    store: Store
    checkpoints: Checkpoints
    initial: InitialNetwork
    settings: Training
    rows: int
    seed: int
    samples: Samples | None = None
    trial: TrialReporter | None = None
    profile: str | None = None
    listeners: Sequence[Listener] = ()

    @property
    def rate(self) -> str:
        """The option that sets the learning rate."""
        fine_tuning = self.initial.first_layer is not None
        return "--training.fine-tuning.learning-rate" if fine_tuning else "--training.learning-rate"

    def run(self, num_proc: int, max_restarts: int) -> TrainedNetwork:
        """Train until all epochs have finished.

        When processes or hosts are lost, training restarts after the last finished epoch, with as many processes as the
        cluster can still run, up to ``num_proc``.

        Args:
            num_proc: the number of Horovod processes.
            max_restarts: the maximum number of restarts.

        Raises:
            TrainingError: a process failed, and the message has its error. Or there were more than ``max_restarts``
                restarts, or no task slot is left. The checkpoints are kept.
        """
        last = self.checkpoints.last()
        failures, since = (list(last.failures), last.time) if last else ([], time.time())
        if last is not None and not has_finished(last.history, self.settings):
            failures.append(_failure("the driver", last, last.time))
            LOGGER.info(f"resuming after epoch {last.epoch} of {self.settings.epochs}")
        restarts = 0
        while last is None or not has_finished(last.history, self.settings):
            processes = self._available_processes(num_proc)
            try:
                self._fit(processes, last, failures, since)
                last = self.checkpoints.last()
                if last is None or not has_finished(last.history, self.settings):
                    raise TrainingError(f"{self.checkpoints.url}: the checkpoint of the last epoch is missing")
                failures = last.failures
            except _ProcessLostError as lost:
                previous_epochs, last = last.epoch if last else 0, self.checkpoints.last()
                if last is not None and last.epoch > previous_epochs:
                    failures, since = list(last.failures), last.time
                elif failures and "seconds" not in failures[-1]:  # another failure before an epoch finished
                    failures[-1] |= {"seconds": time.time() - since, "num_proc": processes}
                    since = time.time()
                restarts += 1
                failures.append(_failure(str(lost), last, time.time()))
                self._report_failure(restarts, max_restarts, failures[-1])
        if failures and "seconds" not in failures[-1]:
            failures[-1] |= {"seconds": 0.0, "num_proc": num_proc}
        return self._best(last, failures)

    def _report_failure(self, restarts: int, max_restarts: int, failure: Failure) -> None:
        message = f"lost {failure['lost']} after {failure['after_epoch']} of {self.settings.epochs} epochs"
        if restarts > max_restarts:
            raise TrainingError(f"{message}: this was failure {restarts}, and --max-restarts is {max_restarts}")
        LOGGER.warning(f"{message}: restart {restarts} of {max_restarts}")

    def _available_processes(self, num_proc: int) -> int:
        """The number of processes that the cluster can run now, up to ``num_proc``."""
        free, _ = wait_for_slots(self.spark, num_proc)
        if free == 0:
            raise TrainingError(f"no task slot is left on {self.spark.sparkContext.master}")
        return min(free, num_proc)

    def _fit(self, num_proc: int, last: Checkpoint | None, failures: list[Failure], since: float) -> None:
        """Run one attempt, from the checkpoint ``last`` to the last epoch.

        Raises:
            _ProcessLostError: a process or host was lost, and another attempt may succeed.
        """
        previous_epochs = last.epoch if last else 0
        history = last.history if last else []
        stderr = LastLines()
        checkpoints = self.checkpoints.claim()
        cores = cores_a_process(self.spark, num_proc)
        monitor = ExecutorMonitor(self.spark)
        LOGGER.debug(f"{num_proc} processes with {cores} cores each, checkpoints in {checkpoints.url}")
        with listening(self.spark, self._on_message) as driver:
            callbacks = self._callbacks(cores, checkpoints, previous_epochs, history)
            profile = Profile(self.profile) if self.profile is not None else None
            callbacks += [profile] if profile is not None else []
            callbacks.append(
                EpochEnd(
                    self.settings, self.rows, checkpoints, history, failures, since, driver, self.samples, self.trial,
                    profile, self.rate,
                )
            )  # fmt: skip
            estimator = self._estimator(num_proc, cores, previous_epochs, callbacks, stderr)
            try:
                with handled_signals(), monitor:
                    estimator.fit_on_parquet()
            except Exception as error:
                lost = monitor.wait(LOSS_SECONDS)
                if lost:
                    raise _ProcessLostError(", ".join(lost)) from error
                if stderr.error_lines:
                    raise TrainingError(f"a Horovod process failed: {stderr.error_lines[-1]}") from error
                if match := EXITED.search(str(error)):
                    if match[1] == "None":  # its host is gone; the last line that it printed does not say why
                        raise _ProcessLostError("the connection to a process") from error
                    last_line = f", {stderr.lines[-1]}" if stderr.lines else ""
                    raise _ProcessLostError(f"a process (exit status {match[1]}{last_line})") from error
                if isinstance(error, TimeoutException):
                    raise TrainingError(f"Horovod: {error}") from error
                raise

    def _estimator(
        self,
        num_proc: int,
        cores: int,
        previous_epochs: int,
        callbacks: list[keras.callbacks.Callback],
        stderr: LastLines,
    ) -> KerasEstimator:
        timeline = {"HOROVOD_TIMELINE": "DYNAMIC"} if self.profile is not None else {}
        return KerasEstimator(
            backend=NoWaitBackend(
                num_proc,
                verbose=0,
                stdout=LastLines(),
                stderr=stderr,
                start_timeout=START_SECONDS,
                nics=network_interfaces(self.spark),
            ),
            backend_env=process_environment(cores) | timeline,
            store=self.store,
            data_module=data_module(
                self.initial.shape,
                self.initial.num_classes,
                Augmentation() if self.initial.split else self.settings.augmentation,
            ),
            model=self.initial.trained_layers(),
            **compile_arguments(self.settings.optimizer, self.settings.learning_rate, self.settings.label_smoothing),
            feature_cols=[PIXELS],
            label_cols=[LABEL],
            validation=VALIDATION,
            callbacks=callbacks,
            checkpoint_callback=SaveEmptyModel(),
            batch_size=int(self.settings.batch_size),  # Spark ML accepts int only, and no subclass of it
            epochs=int(self.settings.epochs) - previous_epochs,
            # The order of the rows differs from that of the previous epochs.
            random_seed=int(self.seed) + 1000 * previous_epochs,
            verbose=0,
        )

    def _on_message(self, message: dict[str, Any]) -> None:
        """Print a message of rank 0, and pass the metrics of an epoch to the listeners."""
        _print_message(self.settings.epochs, message)
        if "epoch" in message:
            for listener in self.listeners:
                try:
                    listener(message)
                except Exception as error:  # a failing listener must not stop the reports of later epochs
                    LOGGER.warning(f"a listener failed on an epoch: {type(error).__name__}: {error}")

    def _callbacks(
        self, cores: int, checkpoints: Checkpoints, previous_epochs: int, history: list[dict[str, Any]]
    ) -> list[keras.callbacks.Callback]:
        """The callbacks that set up a rank and its learning rate."""
        callbacks: list[keras.callbacks.Callback] = training_callbacks(self.settings, history, previous_epochs)
        if previous_epochs:
            callbacks.append(ResumeTraining(checkpoints, previous_epochs))
        if is_local(self.spark):
            callbacks.append(PinCores(cores))
        return callbacks

    def _best(self, last: Checkpoint, failures: list[Failure]) -> TrainedNetwork:
        # A new model from the weights: without the state of the optimizer, three times as large, and without Horovod's
        # wrapper of the optimizer.
        model = self.initial.with_trained(self.checkpoints.read(last.best_epoch).weights)
        return TrainedNetwork.of(last.history, model, failures)


def train(training: NetworkTraining, num_proc: int, max_restarts: int) -> TrainedNetwork:
    """Train a network, then fine-tune it if the settings say so. The epochs of both are in one history.

    Args:
        training: the training.
        num_proc: the number of Horovod processes.
        max_restarts: the maximum number of restarts, for each of the two trainings.

    Raises:
        TrainingError: see :meth:`NetworkTraining.run`.
    """
    # A study trains many networks in one process, where Keras would keep the graphs of all of them.
    keras.backend.clear_session()
    gc.collect()
    trained = training.run(num_proc, max_restarts)
    tuning = training.settings.fine_tuning
    if tuning is None or trained.pruned:
        return trained
    LOGGER.info(f"fine-tuning from {tuning.layer} on")
    previous_epochs = len(trained.history)

    def renumbered(listener: Listener) -> Listener:
        return lambda row: listener(row | {"epoch": row["epoch"] + previous_epochs})

    tuned = dataclasses.replace(
        training,
        checkpoints=Checkpoints(f"{training.checkpoints.url}-fine-tuning"),
        settings=dataclasses.replace(
            training.settings, epochs=tuning.epochs, learning_rate=tuning.learning_rate, fine_tuning=None
        ),
        initial=dataclasses.replace(training.initial, weights=trained.model.get_weights(), first_layer=tuning.layer),
        trial=None,
        profile=None,
        listeners=[renumbered(listener) for listener in training.listeners],
    ).run(num_proc, max_restarts)
    return trained.followed_by(tuned)


class _ProcessLostError(Exception):
    """A process or host was lost, without an error in the training itself."""


def _failure(lost: str, last: Checkpoint | None, seconds: float) -> Failure:
    """Describe a failure. ``seconds`` since 1970 is the time when it happened."""
    time_utc = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    return {"lost": lost, "time": time_utc, "after_epoch": last.epoch if last else 0}


def _print_message(epochs: int, message: dict[str, Any]) -> None:
    if "hosts" in message:
        ranks = ", ".join(f"rank {rank} on {host}" for rank, host in enumerate(message["hosts"]))
        LOGGER.info(f"training: {ranks}")
        return
    LOGGER.info(
        f"epoch {message['epoch']:>{len(str(epochs))}}/{epochs}"
        f"  loss {message['loss']:.4f}  accuracy {message['accuracy']:.4f}"
        f"  validation loss {message['val_loss']:.4f}  accuracy {message['val_accuracy']:.4f}"
        f"  {message['images_per_second']:,.0f} images/s"
    )
    for finding in message.get("findings", []):
        log = LOGGER.info if finding["resolved"] else LOGGER.warning
        log(f"{'resolved: ' if finding['resolved'] else ''}{finding['check']}: {finding['sentence']}")
