"""The state of a training at the end of each epoch, saved where the driver and all processes can read it."""

import io
import json
import logging
import os
import re
import uuid
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from preprocessing.file_systems import is_object_store, open_url
from training.progression import best_epoch

LOGGER = logging.getLogger("handshape")

_FILE = re.compile(r"epoch-(\d+)\.npz$")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a training after an epoch.

    Args:
        epoch: number of finished epochs.
        time: when the epoch finished, in seconds since 1970.
        history: one row per epoch, from the first epoch on.
        failures: failures of workers so far, see :class:`training.trained_network.TrainedNetwork`.
        weights: weights of the model, in the order of Keras.
        optimizer: variables of the optimizer without the learning rate, which depends on the number of processes.
    """

    epoch: int
    time: float
    history: list[dict[str, Any]]
    failures: list[dict[str, Any]]
    weights: list[np.ndarray]
    optimizer: list[np.ndarray]

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest validation loss."""
        return best_epoch(self.history)


class Checkpoints:
    """A folder with a file for each of the last two epochs, and for the best epoch as of each of these two.

    A file is published atomically: it is written under another name, then renamed. In an object store it appears as a
    whole when it is closed. Its parts have checksums, so that truncated or damaged files are not read.

    Args:
        url: URL of the folder.
        token: token of the training attempt that may write, see :meth:`claim`.
    """

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url
        self.token = token

    def claim(self) -> "Checkpoints":
        """Return the folder for a new attempt. Earlier attempts cannot write any more, wherever they may still run."""
        system, folder = open_url(self.url)
        system.makedirs(folder, exist_ok=True)
        claimed = Checkpoints(self.url, uuid.uuid4().hex)
        system.pipe_file(f"{folder}/owner", claimed.token.encode())
        return claimed

    def write(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint of an epoch.

        Raises:
            FileNotFoundError: the folder was deleted.
            PermissionError: another attempt has claimed the folder.
            OSError: the store is full or cannot be written.
        """
        system, folder = open_url(self.url)
        system.invalidate_cache(folder)
        if not system.exists(f"{folder}/owner"):
            raise FileNotFoundError(f"{self.url}: no longer exists: the store was deleted while the training ran")
        if system.cat_file(f"{folder}/owner").decode() != self.token:
            raise PermissionError(f"{self.url}: another job has resumed this training")
        metadata = {name: getattr(checkpoint, name) for name in ("epoch", "time", "history", "failures")}
        content = io.BytesIO()
        np.savez(
            content,
            about=np.frombuffer(json.dumps(metadata).encode(), dtype=np.uint8),
            **{f"weights_{i:04}": array for i, array in enumerate(checkpoint.weights)},
            **{f"optimizer_{i:04}": array for i, array in enumerate(checkpoint.optimizer)},
        )
        path = self._file(folder, checkpoint.epoch)
        temporary_path = f"{folder}/writing-{checkpoint.epoch:05}-{self.token}"
        if is_object_store(self.url):
            temporary_path = path
        try:
            with system.open(temporary_path, "wb") as file:
                file.write(content.getbuffer())
                if self.url.startswith("file:"):
                    file.flush()
                    os.fsync(file.fileno())  # keeps the file if the host loses power
        except OSError as error:
            message = f"{error.strerror or error}: the checkpoint of epoch {checkpoint.epoch}"
            if error.errno is None:  # of S3 or HDFS
                raise OSError(f"{message}: {temporary_path}") from error
            raise OSError(error.errno, message, temporary_path) from error
        if temporary_path != path:
            system.mv(temporary_path, path)
        # If this file turns out to be damaged, training resumes from the previous epoch, which needs its best epoch.
        previous_history = checkpoint.history[:-1] or checkpoint.history
        kept_epochs = {
            checkpoint.epoch,
            checkpoint.epoch - 1,
            best_epoch(checkpoint.history),
            best_epoch(previous_history),
        }
        for epoch in self.epochs():
            if epoch not in kept_epochs:
                system.rm(self._file(folder, epoch))

    def epochs(self) -> list[int]:
        """Return the epochs that have a file, in increasing order."""
        system, folder = open_url(self.url)
        if not system.exists(folder):
            return []
        system.invalidate_cache(folder)  # other processes write there
        matches = (_FILE.search(name) for name in system.ls(folder, detail=False))
        return sorted(int(match[1]) for match in matches if match)

    def read(self, epoch: int) -> Checkpoint:
        """Read the checkpoint of an epoch.

        Raises:
            OSError: the file does not exist or cannot be read.
            ValueError: the file is truncated or damaged.
        """
        system, folder = open_url(self.url)
        try:
            with system.open(self._file(folder, epoch), "rb") as file, np.load(file, allow_pickle=False) as content:
                arrays = {name: content[name] for name in content.files}
            metadata = json.loads(arrays.pop("about").tobytes())
        except (zipfile.BadZipFile, EOFError, KeyError) as error:
            raise ValueError(f"{self._file(folder, epoch)}: truncated or damaged: {error}") from error
        weights, optimizer = (
            [arrays[name] for name in sorted(arrays) if name.startswith(prefix)] for prefix in ("weights", "optimizer")
        )
        return Checkpoint(**metadata, weights=weights, optimizer=optimizer)

    def last(self) -> Checkpoint | None:
        """Return the newest checkpoint that can be read, or None."""
        for epoch in reversed(self.epochs()):
            try:
                return self.read(epoch)
            except (OSError, ValueError) as error:
                LOGGER.warning(f"Skipping a checkpoint: {error}")
        return None

    @staticmethod
    def _file(folder: str, epoch: int) -> str:
        return f"{folder}/epoch-{epoch:05}.npz"
