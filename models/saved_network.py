"""Saving and loading networks in the Keras format (``.keras``)."""

import tempfile
import uuid
import zipfile
from pathlib import Path

import keras
import numpy as np

from models.errors import TrainingError
from models.network_check import WEIGHTS, UncheckedError, read_checked


def save_network(model: keras.Model, path: Path) -> None:
    """Write a network in the Keras format, a zip file. The file is published atomically.

    Args:
        model: the network.
        path: path that ends in ``.keras``; an existing file is replaced.
    """
    temporary_path = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.keras")
    try:
        # Without save_format, Keras 2.15 writes HDF5 from the second file on in every thread except the one that
        # imported it, because the flag that selects the format is thread-local.
        model.save(temporary_path, save_format="keras_v3")
        temporary_path.replace(path)
    finally:
        temporary_path.unlink(missing_ok=True)


def load_network(path: Path) -> keras.Model:
    """Load a network without running code from its file.

    Only the layers that this project's networks use are loaded, see :mod:`models.network_check`.

    Returns:
        The network, not compiled.

    Raises:
        TrainingError: the file does not exist, is not a network, or contains anything that is not allowed.
    """
    try:
        with zipfile.ZipFile(path) as file:
            config, weights = read_checked(file)
    except FileNotFoundError as error:
        raise TrainingError(f"{path}: no such file") from error
    except UncheckedError as error:
        raise TrainingError(f"{path}: {error}") from error
    except Exception as error:  # an untrusted file can raise any error in the zip, JSON and HDF5 readers
        raise TrainingError(f"{path}: not a network in the Keras format: {_first_line(error)}") from error
    try:
        with tempfile.TemporaryDirectory() as folder:
            weights_path = Path(folder) / WEIGHTS
            weights_path.write_bytes(weights)
            # This loads exactly what was checked. It takes 2 s for ResNet-50; keras.models.load_model takes 17 s,
            # because it searches the zip file from its beginning for each weight.
            network = keras.saving.deserialize_keras_object(config, safe_mode=True)
            network.load_weights(weights_path)
            return network
    except Exception as error:  # Keras can raise any error
        raise TrainingError(f"{path}: cannot be loaded: {_first_line(error)}") from error


def check_saved(model: keras.Model, path: Path) -> None:
    """Load a saved network and compare its weights with the trained network.

    Raises:
        TrainingError: the file cannot be loaded, or its weights differ.
    """
    trained, saved = model.get_weights(), load_network(path).get_weights()
    if len(trained) != len(saved) or not all(map(np.array_equal, trained, saved)):
        raise TrainingError(f"{path}: its weights differ from those of the trained network")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
