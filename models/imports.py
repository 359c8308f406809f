"""Faster imports of large packages, above all TensorFlow."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage() -> Iterator[None]:
    """Import packages without garbage collection.

    Imported modules are never freed, and collecting among them takes a quarter of the import time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # also skips them in the collection at the end of the process
        gc.enable()
