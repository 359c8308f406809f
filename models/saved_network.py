"""Networks as they are saved, in Keras's own format."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from models.errors import TrainingError


def load_network(path: Path) -> keras.Model:
    """Load a network without running code that lies in its file.

    Keras refuses code of Lambda layers by itself, but imports any class that the file names: here they are Keras's own.

    Raises:
        TrainingError: the file is no network, or one with layers that are not Keras's.
    """
    try:
        with zipfile.ZipFile(path) as file:
            config = json.loads(file.read("config.json"))
    except FileNotFoundError as error:
        raise TrainingError(f"{path}: no such file") from error
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{path}: no network in Keras's format: {error}") from error
    for module, name in _classes(config):
        own = module == "keras" or module.startswith("keras.") or (module, name) == ("builtins", "function")
        if not own or name == "Lambda":
            raise TrainingError(
                f"{path}: has a {module}.{name}; a network is made of Keras's own layers alone, no Lambda"
            )
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # whatever Keras stumbles over in a file that others have made
        raise TrainingError(f"{path}: cannot be loaded: {str(error).splitlines()[0]}") from error


def _classes(part: Any) -> Iterator[tuple[str, str]]:
    """The module and name of every object that a configuration describes."""
    if isinstance(part, dict):
        if "class_name" in part:
            yield str(part.get("module")), str(part["class_name"])
        for inner in part.values():
            yield from _classes(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _classes(inner)
