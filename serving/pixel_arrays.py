"""Conversion of pixel arrays from NumPy and JSON to pictures of the run's size."""

import io
import itertools
import math
from typing import Any

import numpy as np

from preprocessing.data_settings import Preprocessing
from preprocessing.decoding import resize_pixels
from preprocessing.parsing import SIDE
from serving.errors import BodyError, shorten


def from_lists(instance: Any, settings: Preprocessing, prefix: str) -> bytes:
    """The pixels of a picture, one byte per value.

    The lists are checked before anything converts them: NumPy would give every element the size of the longest string
    in them.

    Args:
        instance: nested lists of numbers, or any other JSON value.
        settings: preprocessing of the run.
        prefix: the picture's position, with which error messages begin.

    Raises:
        BodyError: 422 for another shape, or values that are not whole numbers 0..255.
    """
    shape, pixels = _flatten(instance, prefix)
    _check_shape(shape, settings, prefix)
    for pixel in pixels:
        if type(pixel) not in (int, float) or not 0 <= pixel <= 255 or pixel != int(pixel):
            raise BodyError(422, f"{prefix}pixels are whole numbers 0..255, not {_describe(pixel)}")
    return _resize(bytes(map(int, pixels)), settings)


def _flatten(instance: Any, prefix: str) -> tuple[tuple[int, ...], list[Any]]:
    """The shape of nested lists, and the values in the innermost ones."""
    shape, values = [], [instance]
    while isinstance(values[0], list):
        lengths = {len(value) if isinstance(value, list) else None for value in values}
        if len(lengths) > 1:
            raise BodyError(422, f"{prefix}lists of different lengths, or lists beside numbers")
        shape.append(len(values[0]))
        values = list(itertools.chain.from_iterable(values))
        if not values:
            break
    return tuple(shape), values


def read_npy(body: bytes) -> np.ndarray:
    """The array of an .npy file, as a view of the body; its header is not trusted.

    Raises:
        BodyError: 400 if the body is not a complete array of numbers.
    """
    file = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran_order, dtype = readers[version](file)
    except Exception as error:  # an invalid header may raise anything
        raise BodyError(400, f"no NumPy array (.npy): {shorten(str(error))}") from error
    if dtype.kind not in "biuf":
        raise BodyError(400, f"no NumPy array (.npy) of numbers: {shorten(str(dtype))}")
    # NumPy's own product of the dimensions overflows, and its reader allocates as much as the header declares
    declared_bytes, available_bytes = math.prod(shape) * dtype.itemsize, len(body) - file.tell()
    if min(shape, default=0) < 0 or declared_bytes > available_bytes:
        declared = f"{shorten(str(dtype))} of shape {shorten(str(shape))}"
        raise BodyError(
            400, f"an incomplete NumPy array (.npy): its header says {declared}, and {available_bytes:,} bytes follow"
        )
    try:
        flat = np.frombuffer(body, dtype, math.prod(shape), file.tell())
        return flat.reshape(shape, order="F" if fortran_order else "C")
    except (TypeError, ValueError, OverflowError) as error:  # dimensions that are no integers, too many, or too large
        raise BodyError(400, f"no NumPy array (.npy): shape {shorten(str(shape))}: {error}") from error


def shapes(settings: Preprocessing) -> list[tuple[int, ...]]:
    """The shapes that a single picture may have."""
    height, width, channels = settings.shape
    allowed: list[tuple[int, ...]] = [(math.prod(settings.shape),), (height, width, channels), (SIDE, SIDE), (SIDE**2,)]
    return [*allowed, (height, width)] if channels == 1 else allowed


def from_array(array: np.ndarray, settings: Preprocessing, prefix: str) -> bytes:
    """The pixels of a picture, one byte per value; error messages begin with ``prefix``, the picture's position.

    Raises:
        BodyError: 422 for another shape, or values that are not whole numbers 0..255.
    """
    _check_shape(array.shape, settings, prefix)
    if array.dtype.kind not in "iuf":
        raise BodyError(422, f"{prefix}{array.dtype}; pixels are whole numbers 0..255")
    if not np.isfinite(array).all() or (array < 0).any() or (array > 255).any() or (array != np.trunc(array)).any():
        raise BodyError(422, f"{prefix}pixels are whole numbers 0..255, not {_first_invalid(array)}")
    return _resize(array.astype(np.uint8).tobytes(), settings)


def _check_shape(shape: tuple[int, ...], settings: Preprocessing, prefix: str) -> None:
    """Check that a picture has the run's own number of pixels, or Sign-MNIST's 784, flat or as rows and columns."""
    allowed = shapes(settings)
    if shape not in allowed:
        allowed_names = ", ".join(str(allowed_shape) for allowed_shape in dict.fromkeys(allowed))
        raise BodyError(422, f"{prefix}shape {shorten(str(shape))}; a picture is one of {allowed_names}")


def _resize(pixels: bytes, settings: Preprocessing) -> bytes:
    return pixels if len(pixels) == math.prod(settings.shape) else resize_pixels(pixels, (SIDE, SIDE, 1), settings)


def _first_invalid(array: np.ndarray) -> str:
    values = array.ravel()
    with np.errstate(invalid="ignore"):
        return str(values[~((values >= 0) & (values <= 255) & (values == np.trunc(values)))][0])


def _describe(value: Any) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return shorten(repr(value[:60] if isinstance(value, str) else value))
