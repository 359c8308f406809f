"""What happens between a training's steps and epochs, on every rank."""

import math
import time
from typing import Any

import horovod.tensorflow.keras as hvd
from keras import backend
from keras.callbacks import Callback

from models.progress import Address, Teller

Logs = dict[str, float] | None


class CosineSchedule(Callback):
    """The learning rate up along a line in the first epoch, then down to 0 along half a cosine.

    The rise is for the large batches of many processes (Goyal et al., 2017), the fall after Loshchilov and Hutter,
    2016. The peak is the rate the model is compiled with, times the number of processes.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs

    def on_train_begin(self, logs: Logs = None) -> None:
        self.peak = float(backend.get_value(self.model.optimizer.lr))
        self.step = 0

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        rise = self.params["steps"]
        if self.step < rise and self.epochs > 1:
            rate = self.peak * (self.step + 1) / rise
        else:
            rise = rise if self.epochs > 1 else 0
            done = (self.step - rise) / (self.params["steps"] * self.epochs - rise)
            rate = self.peak * (1 + math.cos(math.pi * done)) / 2
        backend.set_value(self.model.optimizer.lr, rate)
        self.step += 1


class EpochReport(Callback):
    """The epoch's seconds and speed in the history, and all of it told to the driver by rank 0.

    ``images_per_second`` counts the training pictures of all ranks over the time of the training steps alone.
    """

    def __init__(self, rows: int, driver: Address) -> None:
        super().__init__()
        self.rows = rows
        self.driver = driver

    def on_train_begin(self, logs: Logs = None) -> None:
        self.teller = Teller(self.driver) if hvd.rank() == 0 else None

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.begin = time.perf_counter()
        self.trained: float | None = None

    def on_test_begin(self, logs: Logs = None) -> None:
        self.trained = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not math.isfinite(logs["loss"]):
            raise FloatingPointError(f"the loss of epoch {epoch + 1} is {logs['loss']}: lower --training.learning-rate")
        now = time.perf_counter()
        logs["seconds"] = now - self.begin
        logs["images_per_second"] = self.rows / ((self.trained or now) - self.begin)
        if self.teller is not None:
            self.teller.tell({"epoch": epoch + 1} | {name: float(value) for name, value in logs.items()})
