"""Bodies of requests to rows of pixels: JPEG, PNG, CSV, JSON, NumPy, one picture or many."""

import base64
import binascii
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from preprocessing.decoding import decode, resize_pixels
from preprocessing.parsing import HEADER, SIDE, UNLABELLED_HEADER, parse_line
from preprocessing.settings import Preprocessing
from serving.settings import Limits

# Pillow's other formats are not made for what strangers send.
_FORMATS = ("JPEG", "PNG")


class BodyError(ValueError):
    """A body that cannot be used: the HTTP status, and what was found and is allowed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def read_body(body: bytes, content_type: str, settings: Preprocessing, limits: Limits) -> np.ndarray:
    """Read pictures and bring them to the size and colour of the run's.

    Args:
        body: of the request.
        content_type: one of ``CONTENT_TYPES``; parameters such as a charset are ignored.
        settings: the run's.
        limits: the server's.

    Returns:
        ``uint8`` of shape ``(n, pixels)``.

    Raises:
        BodyError: 415 for another type, 413 for too many or too large pictures, 400 for what is not of its type, 422
            for a picture or row that cannot be used.
    """
    kind = content_type.split(";")[0].strip().lower()
    if kind not in CONTENT_TYPES:
        raise BodyError(415, f"Content-Type {kind or 'is missing'}; it is one of {', '.join(CONTENT_TYPES)}")
    if not body:
        raise BodyError(400, "the body is empty")
    return np.stack([np.frombuffer(row, dtype=np.uint8) for row in CONTENT_TYPES[kind](body, settings, limits)])


@dataclass
class _Unpacked:
    """The pixels that a request's pictures have in all, as far as they were read."""

    pixels: int = 0

    def add(self, width: int, height: int, limits: Limits, where: str) -> None:
        self.pixels += width * height
        if self.pixels > limits.pixels:
            size = f"{width} x {height}, {self.pixels:,} pixels in all"
            raise BodyError(413, f"{where}too large a picture: {size}; {limits.pixels:,} a request are the most")


def _read_picture(
    content: bytes, settings: Preprocessing, limits: Limits, unpacked: _Unpacked, where: str = ""
) -> bytes:
    """Decode a JPEG or PNG as the run's pictures were; ``where`` it is begins the message of what is wrong."""
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:  # no more than its head is read
            width, height, frames = *image.size, getattr(image, "n_frames", 1)
    except Exception:  # decode says what is wrong with it
        width, height, frames = 0, 0, 1
    unpacked.add(width, height, limits, where)
    if frames > 1:
        raise BodyError(422, f"{where}an animated picture: {frames} frames; a picture has one")
    decoded = decode(content, settings, _FORMATS)
    if decoded.pixels is None:
        status = 413 if decoded.reason == "too large a picture" else 422
        raise BodyError(status, f"{where}{decoded.reason}: {decoded.detail}")
    return decoded.pixels


def _picture(body: bytes, settings: Preprocessing, limits: Limits) -> list[bytes]:
    return [_read_picture(body, settings, limits, _Unpacked())]


def _csv(body: bytes, settings: Preprocessing, limits: Limits) -> list[bytes]:
    try:
        lines = body.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BodyError(400, f"the CSV is not UTF-8: {error.reason} at byte {error.start}") from error
    first = "".join(lines[:1]).replace('"', "").replace(" ", "")
    labelled, has_header = first == HEADER, first in (HEADER, UNLABELLED_HEADER)
    rows = [(number, line) for number, line in enumerate(lines, 1) if line.strip()][has_header:]
    _check_count(len(rows), limits)
    pictures = []
    for number, line in rows:
        parsed = parse_line(line, labelled)
        if parsed.pixels is None:
            raise BodyError(422, f"line {number}: {parsed.reason}: {parsed.detail}")
        pictures.append(resize_pixels(parsed.pixels, (SIDE, SIDE, 1), settings))
    return pictures


def _json(body: bytes, settings: Preprocessing, limits: Limits) -> list[bytes]:
    """``{"instances": [...]}``: each an array of pixels or ``{"b64": "..."}``, a picture's file."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BodyError(400, f"no JSON: {error}") from error
    instances = content.get("instances") if isinstance(content, dict) else None
    if not isinstance(instances, list):
        raise BodyError(400, 'the JSON is not {"instances": [...]}')
    _check_count(len(instances), limits)
    unpacked = _Unpacked()
    return [
        _instance(instance, settings, limits, unpacked, f"instances[{place}]: ")
        for place, instance in enumerate(instances)
    ]


def _instance(instance: Any, settings: Preprocessing, limits: Limits, unpacked: _Unpacked, where: str) -> bytes:
    if isinstance(instance, dict):
        encoded = instance.get("b64")
        if not isinstance(encoded, str):
            raise BodyError(422, f'{where}an object without "b64", a picture\'s file in base 64')
        try:
            content = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BodyError(422, f"{where}b64 is no base 64: {error}") from error
        return _read_picture(content, settings, limits, unpacked, where)
    try:
        return _array(np.array(instance), settings, where)
    except ValueError as error:
        if isinstance(error, BodyError):
            raise
        raise BodyError(422, f"{where}lists of different lengths") from error


def _numpy(body: bytes, settings: Preprocessing, limits: Limits) -> list[bytes]:
    try:
        array = np.load(io.BytesIO(body), allow_pickle=False)  # a pickle can run code
    except Exception as error:  # whatever it stumbles over in what anybody may have sent
        raise BodyError(400, f"no NumPy array (.npy): {error}") from error
    if not isinstance(array, np.ndarray) or array.ndim == 0:
        raise BodyError(400, "no NumPy array (.npy) of pictures")
    # one picture is a row of pixels, or height and width that are not a number of rows
    rows = array[np.newaxis] if array.ndim == 1 or array.shape in _shapes(settings) else array
    _check_count(len(rows), limits)
    return [_array(row, settings, f"[{place}]: ") for place, row in enumerate(rows)]


def _shapes(settings: Preprocessing) -> list[tuple[int, ...]]:
    """In which one picture may come."""
    height, width, channels = settings.shape
    shapes: list[tuple[int, ...]] = [(math.prod(settings.shape),), (height, width, channels), (SIDE, SIDE), (SIDE**2,)]
    return [*shapes, (height, width)] if channels == 1 else shapes


def _array(array: np.ndarray, settings: Preprocessing, where: str) -> bytes:
    """A picture's pixels: the run's own number of them, or Sign-MNIST's 784, flat or as rows and columns."""
    shapes = _shapes(settings)
    if array.shape not in shapes:
        allowed = ", ".join(str(shape) for shape in dict.fromkeys(shapes))
        raise BodyError(422, f"{where}shape {array.shape}; a picture is one of {allowed}")
    if array.dtype.kind not in "iuf":
        raise BodyError(422, f"{where}{array.dtype}; pixels are whole numbers 0..255")
    if not np.isfinite(array).all() or (array < 0).any() or (array > 255).any() or (array != np.trunc(array)).any():
        raise BodyError(422, f"{where}pixels are whole numbers 0..255, not {_first_wrong(array)}")
    pixels = array.astype(np.uint8).tobytes()
    return pixels if array.size == math.prod(settings.shape) else resize_pixels(pixels, (SIDE, SIDE, 1), settings)


def _first_wrong(array: np.ndarray) -> str:
    values = array.ravel()
    with np.errstate(invalid="ignore"):
        return str(values[~((values >= 0) & (values <= 255) & (values == np.trunc(values)))][0])


def _check_count(count: int, limits: Limits) -> None:
    if count == 0:
        raise BodyError(400, "there is no picture in the body")
    if count > limits.pictures:
        raise BodyError(413, f"{count:,} pictures; {limits.pictures:,} a request are the most")


CONTENT_TYPES: dict[str, Callable[[bytes, Preprocessing, Limits], list[bytes]]] = {
    "image/jpeg": _picture,
    "image/png": _picture,
    "text/csv": _csv,
    "application/json": _json,
    "application/x-npy": _numpy,
}
