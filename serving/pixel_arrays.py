"""Arrays of pixels, as NumPy and JSON have them, to a picture of the run's size."""

import io
import itertools
import math
from typing import Any

import numpy as np

from preprocessing.decoding import resize_pixels
from preprocessing.parsing import SIDE
from preprocessing.settings import Preprocessing
from serving.errors import BodyError, cut


def from_lists(instance: Any, settings: Preprocessing, where: str) -> bytes:
    """A picture's pixels, a byte each; ``where`` it is begins the message of what is wrong.

    NumPy would make one array of whatever is in the lists, with room for the longest of them at every place.

    Args:
        instance: lists within lists of numbers, or what else JSON has.
        settings: the run's.

    Raises:
        BodyError: 422 for another shape, or anything but numbers 0..255.
    """
    shape, pixels = _flat(instance, where)
    _check_shape(shape, settings, where)
    for pixel in pixels:
        if type(pixel) not in (int, float) or not 0 <= pixel <= 255 or pixel != int(pixel):
            raise BodyError(422, f"{where}pixels are whole numbers 0..255, not {_shown(pixel)}")
    return _sized(bytes(map(int, pixels)), settings)


def _flat(instance: Any, where: str) -> tuple[tuple[int, ...], list[Any]]:
    """The shape of lists within lists, and what is in the innermost ones."""
    shape, values = [], [instance]
    while isinstance(values[0], list):
        lengths = {len(value) if isinstance(value, list) else None for value in values}
        if len(lengths) > 1:
            raise BodyError(422, f"{where}lists of different lengths, or lists beside numbers")
        shape.append(len(values[0]))
        values = list(itertools.chain.from_iterable(values))
        if not values:
            break
    return tuple(shape), values


def read_npy(body: bytes) -> np.ndarray:
    """The array of an .npy file, whose head may promise anything: it is a view of the body, or nothing.

    Raises:
        BodyError: 400 for what is no whole array of numbers.
    """
    file = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(file)
        read_head = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, by_column, dtype = read_head(file)
    except Exception as error:  # whatever it stumbles over in what anybody may have sent
        raise BodyError(400, f"no NumPy array (.npy): {cut(str(error))}") from error
    if dtype.kind not in "biuf":
        raise BodyError(400, f"no NumPy array (.npy) of numbers: {cut(str(dtype))}")
    # neither NumPy's own product of the sides, which overflows, nor its reading, which makes room for what is promised
    needed, found = math.prod(shape) * dtype.itemsize, len(body) - file.tell()
    if min(shape, default=0) < 0 or needed > found:
        promised = f"{cut(str(dtype))} of shape {cut(str(shape))}"
        raise BodyError(400, f"no whole NumPy array (.npy): its head says {promised}, and {found:,} bytes follow")
    try:
        flat = np.frombuffer(body, dtype, math.prod(shape), file.tell())
        return flat.reshape(shape, order="F" if by_column else "C")
    except (TypeError, ValueError, OverflowError) as error:  # sides that are none, too many, or without end
        raise BodyError(400, f"no NumPy array (.npy): shape {cut(str(shape))}: {error}") from error


def shapes(settings: Preprocessing) -> list[tuple[int, ...]]:
    """In which one picture may come."""
    height, width, channels = settings.shape
    found: list[tuple[int, ...]] = [(math.prod(settings.shape),), (height, width, channels), (SIDE, SIDE), (SIDE**2,)]
    return [*found, (height, width)] if channels == 1 else found


def from_array(array: np.ndarray, settings: Preprocessing, where: str) -> bytes:
    """A picture's pixels, a byte each; ``where`` it is begins the message of what is wrong.

    Raises:
        BodyError: 422 for another shape, or other numbers than 0..255.
    """
    _check_shape(array.shape, settings, where)
    if array.dtype.kind not in "iuf":
        raise BodyError(422, f"{where}{array.dtype}; pixels are whole numbers 0..255")
    if not np.isfinite(array).all() or (array < 0).any() or (array > 255).any() or (array != np.trunc(array)).any():
        raise BodyError(422, f"{where}pixels are whole numbers 0..255, not {_first_wrong(array)}")
    return _sized(array.astype(np.uint8).tobytes(), settings)


def _check_shape(shape: tuple[int, ...], settings: Preprocessing, where: str) -> None:
    """A picture has the run's own number of pixels, or Sign-MNIST's 784, flat or as rows and columns."""
    allowed = shapes(settings)
    if shape not in allowed:
        said = ", ".join(str(shape) for shape in dict.fromkeys(allowed))
        raise BodyError(422, f"{where}shape {cut(str(shape))}; a picture is one of {said}")


def _sized(pixels: bytes, settings: Preprocessing) -> bytes:
    return pixels if len(pixels) == math.prod(settings.shape) else resize_pixels(pixels, (SIDE, SIDE, 1), settings)


def _first_wrong(array: np.ndarray) -> str:
    values = array.ravel()
    with np.errstate(invalid="ignore"):
        return str(values[~((values >= 0) & (values <= 255) & (values == np.trunc(values)))][0])


def _shown(value: Any) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return cut(repr(value[:60] if isinstance(value, str) else value))
