"""Imports of large packages, TensorFlow's above all."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage() -> Iterator[None]:
    """What is imported stays: looking through it for garbage, again and again, takes a quarter of an import's time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # nor when the process ends
        gc.enable()
