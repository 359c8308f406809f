"""What a training has reached at the end of each epoch, kept where the driver and every process see it."""

import io
import json
import os
import re
import uuid
import zipfile
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np

from models.progression import best_epoch

_FILE = re.compile(r"epoch-(\d+)\.npz$")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training after so many epochs.

    Args:
        epoch: how many have finished.
        time: when, in seconds since 1970.
        history: a row an epoch, from the first one on.
        losses: what was lost on the way, see :class:`models.cnn.TrainedNetwork`.
        weights: of the model, in Keras's order.
        optimizer: its variables, the learning rate aside, which depends on the number of processes.
    """

    epoch: int
    time: float
    history: list[dict[str, Any]]
    losses: list[dict[str, Any]]
    weights: list[np.ndarray]
    optimizer: list[np.ndarray]

    @property
    def best_epoch(self) -> int:
        """The epoch of the lowest validation loss."""
        return best_epoch(self.history)


class Checkpoints:
    """A folder with a file for each of the last two epochs and for the best one, as seen from either of the two.

    A file is written under another name and renamed when it is whole, and its parts have checksums: what was cut off
    is not read.

    Args:
        url: of the folder.
        token: of the attempt that may write, see :meth:`claim`.
    """

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url
        self.token = token

    def claim(self) -> "Checkpoints":
        """The same folder for a new attempt: none that began before it can write any more, wherever it still runs."""
        system, folder = fsspec.core.url_to_fs(self.url)
        system.makedirs(folder, exist_ok=True)
        claimed = Checkpoints(self.url, uuid.uuid4().hex)
        system.pipe_file(f"{folder}/owner", claimed.token.encode())
        return claimed

    def write(self, checkpoint: Checkpoint) -> None:
        """Keep an epoch.

        Raises:
            OSError: the store is full, or cannot be written; or the training is another attempt's by now.
        """
        system, folder = fsspec.core.url_to_fs(self.url)
        system.invalidate_cache(folder)
        if not system.exists(f"{folder}/owner"):
            raise FileNotFoundError(f"{self.url}: is no longer there: the store was deleted while the training ran")
        if system.cat_file(f"{folder}/owner").decode() != self.token:
            raise PermissionError(f"{self.url}: another job has taken this training up")
        about = {name: getattr(checkpoint, name) for name in ("epoch", "time", "history", "losses")}
        content = io.BytesIO()
        np.savez(
            content,
            about=np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
            **{f"weights_{i:04}": array for i, array in enumerate(checkpoint.weights)},
            **{f"optimizer_{i:04}": array for i, array in enumerate(checkpoint.optimizer)},
        )
        half = f"{folder}/writing-{checkpoint.epoch:05}-{self.token}"
        try:
            with system.open(half, "wb") as file:
                file.write(content.getbuffer())
                file.flush()
                if self.url.startswith("file:"):
                    os.fsync(file.fileno())  # a host may lose its power, too
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}: the checkpoint of epoch {checkpoint.epoch}", half) from error
        system.mv(half, self._file(folder, checkpoint.epoch))
        # the best of those before, too: they are what is left when this file turns out damaged
        before = checkpoint.history[:-1] or checkpoint.history
        kept = {checkpoint.epoch, checkpoint.epoch - 1, best_epoch(checkpoint.history), best_epoch(before)}
        for epoch in self.epochs():
            if epoch not in kept:
                system.rm(self._file(folder, epoch))

    def epochs(self) -> list[int]:
        """The epochs there is a file of."""
        system, folder = fsspec.core.url_to_fs(self.url)
        if not system.exists(folder):
            return []
        system.invalidate_cache(folder)  # other processes write there
        found = (_FILE.search(name) for name in system.ls(folder, detail=False))
        return sorted(int(match[1]) for match in found if match)

    def read(self, epoch: int) -> Checkpoint:
        """Raises: OSError, ValueError: there is none of this epoch that is whole."""
        system, folder = fsspec.core.url_to_fs(self.url)
        try:
            with system.open(self._file(folder, epoch), "rb") as file, np.load(file, allow_pickle=False) as content:
                arrays = {name: content[name] for name in content.files}
            about = json.loads(arrays.pop("about").tobytes())
        except (zipfile.BadZipFile, EOFError, KeyError) as error:
            raise ValueError(f"{self._file(folder, epoch)}: cut off or damaged: {error}") from error
        weights, optimizer = (
            [arrays[name] for name in sorted(arrays) if name.startswith(kind)] for kind in ("weights", "optimizer")
        )
        return Checkpoint(**about, weights=weights, optimizer=optimizer)

    def last(self) -> Checkpoint | None:
        """The newest that is whole."""
        for epoch in reversed(self.epochs()):
            try:
                return self.read(epoch)
            except (OSError, ValueError) as error:
                print(f"left aside: {error}", flush=True)
        return None

    @staticmethod
    def _file(folder: str, epoch: int) -> str:
        return f"{folder}/epoch-{epoch:05}.npz"
