"""Networks as they are saved, in Keras's own format."""

import tempfile
import uuid
import zipfile
from pathlib import Path

import keras
import numpy as np

from models.errors import TrainingError
from models.network_check import WEIGHTS, UncheckedError, read_checked


def save_network(model: keras.Model, path: Path) -> None:
    """Write a network in Keras's own format, a zip file. It appears when it is whole.

    Args:
        model: the network.
        path: ends in ``.keras``; what is there is replaced.
    """
    half = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.keras")
    try:
        # By the file's name alone Keras 2.15 writes HDF5 from the second file on, in all threads but the one in which
        # it was imported: what it decides by is kept for that thread.
        model.save(half, save_format="keras_v3")
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def load_network(path: Path) -> keras.Model:
    """Load a network without running code that lies in its file.

    Only what this project's networks are made of is loaded, see :mod:`models.network_check`.

    Returns:
        The network, not compiled.

    Raises:
        TrainingError: the file is no network, or holds something else.
    """
    try:
        with zipfile.ZipFile(path) as file:
            config, weights = read_checked(file)
    except FileNotFoundError as error:
        raise TrainingError(f"{path}: no such file") from error
    except UncheckedError as error:
        raise TrainingError(f"{path}: {error}") from error
    except Exception as error:  # whatever the readers of zip, JSON and HDF5 stumble over in a file that others made
        raise TrainingError(f"{path}: no network in Keras's format: {_first_line(error)}") from error
    try:
        with tempfile.TemporaryDirectory() as folder:
            content = Path(folder) / WEIGHTS
            content.write_bytes(weights)
            # What was checked, and faster than keras.models.load_model, which looks for each weight from the zip
            # file's beginning: 2 s for ResNet-50, not 17.
            network = keras.saving.deserialize_keras_object(config, safe_mode=True)
            network.load_weights(content)
            return network
    except Exception as error:  # whatever Keras stumbles over
        raise TrainingError(f"{path}: cannot be loaded: {_first_line(error)}") from error


def check_saved(model: keras.Model, path: Path) -> None:
    """Read a network back, as the jobs that use it will.

    Raises:
        TrainingError: it cannot be loaded, or has other weights.
    """
    kept, found = model.get_weights(), load_network(path).get_weights()
    if len(kept) != len(found) or not all(map(np.array_equal, kept, found)):
        raise TrainingError(f"{path}: has other weights than the network that was saved there")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
