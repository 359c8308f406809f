"""Bodies of requests to rows of pixels: JPEG, PNG, CSV, JSON, NumPy, one picture or many."""

import base64
import io
import json
import math
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from preprocessing.decoding import decode, resize_pixels
from preprocessing.parsing import HEADER, SIDE, UNLABELLED_HEADER, parse_line
from preprocessing.settings import Preprocessing
from serving.errors import BodyError, cut
from serving.picture_files import promised_pixels, slim
from serving.pixel_arrays import from_array, from_lists, read_npy, shapes
from serving.settings import Limits

# Pillow's other formats are not made for what strangers send.
_FORMATS = ("JPEG", "PNG")
# Of a line of CSV: 784 numbers have some 3,000; spaces, quotes and leading zeros may come on top.
_LINE = 64 * 1024
# Decoding passes over each pixel once, or with each scan of a progressive JPEG; cameras' have ten.
_PASSES = 10
# The alphabet of addresses beside the usual one.
_BASE64 = bytes.maketrans(b"-_", b"+/")
_DATA_URI = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_GZIP = ("gzip", "x-gzip")
CONTENT_ENCODINGS = ("", "identity", *_GZIP)


def read_body(
    body: bytes, content_type: str, settings: Preprocessing, limits: Limits, encoding: str = ""
) -> np.ndarray:
    """Read pictures and bring them to the size and color of the run's.

    What a body costs is bounded before it is paid: nothing is unpacked, decoded or made an array before it is known how
    much will come of it.

    Args:
        body: of the request.
        content_type: one of ``CONTENT_TYPES``; parameters such as a charset are ignored.
        settings: the run's.
        limits: the server's.
        encoding: one of ``CONTENT_ENCODINGS``.

    Returns:
        ``uint8`` of shape ``(n, pixels)``.

    Raises:
        BodyError: 415 for another type, 413 for too much of anything, 400 for what is not of its type, 422 for a
            picture or row that cannot be used.
    """
    kind = content_type.split(";")[0].strip().lower()
    if kind not in CONTENT_TYPES:
        raise BodyError(415, f"Content-Type {cut(kind) or 'is missing'}; it is one of {', '.join(CONTENT_TYPES)}")
    if encoding in _GZIP:
        body = _unzip(body, limits)
    if not body:
        raise BodyError(400, "the body is empty")
    return np.stack([np.frombuffer(row, dtype=np.uint8) for row in CONTENT_TYPES[kind](body, settings, limits)])


def weight(body: bytes, content_type: str, encoding: str = "") -> float:
    """About how long a body takes to read, in pixels that are decoded; without end where only reading it tells."""
    if encoding in _GZIP:
        return math.inf
    if content_type.strip().lower().startswith("image/"):
        return promised_pixels(body)
    # pictures' files come as objects within the object
    return math.inf if "json" in content_type.lower() and body.count(b"{") > 1 else len(body)


def _unzip(body: bytes, limits: Limits) -> bytes:
    unpacking = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacking.decompress(body, limits.body + 1)
    except zlib.error as error:
        raise BodyError(400, f"Content-Encoding gzip, but the body is not gzip: {error}") from error
    if len(unpacked) > limits.body:
        raise BodyError(413, f"a body of more than {limits.body:,} bytes when it is unpacked")
    if not unpacking.eof or unpacking.unused_data:
        fault = "something follows it" if unpacking.eof else "it ends too soon"
        raise BodyError(400, f"Content-Encoding gzip, but the body is not one whole gzip: {fault}")
    return unpacked


@dataclass
class _Decoding:
    """What decoding the pictures of a request costs in all, as far as their heads were read."""

    pixels: int = 0
    passed: int = 0

    def add(self, width: int, height: int, scans: int, limits: Limits) -> None:
        self.pixels += width * height
        self.passed += width * height * scans
        size = f"{width} x {height}"
        if self.pixels > limits.pixels:
            found = f"{size}, {self.pixels:,} pixels in all"
            raise BodyError(413, f"too large a picture: {found}; {limits.pixels:,} a request are the most")
        if self.passed > _PASSES * limits.pixels:
            found = f"{size} in {scans} scans, {self.passed:,} pixels in all"
            most = f"{_PASSES * limits.pixels:,} a request are the most"
            raise BodyError(413, f"too costly a picture: {found}; {most}")


def _read_picture(
    content: bytes, settings: Preprocessing, limits: Limits, decoding: _Decoding, where: str = ""
) -> bytes:
    """Decode a JPEG or PNG as the run's pictures were; ``where`` it is begins the message of what is wrong."""
    try:
        slimmed, scans = slim(content)
        decoding.add(*_size(slimmed), scans, limits)
    except BodyError as error:
        raise BodyError(error.status, f"{where}{error}") from error
    decoded = decode(slimmed, settings, _FORMATS)
    if decoded.pixels is None:
        status = 413 if decoded.reason == "too large a picture" else 422
        raise BodyError(status, f"{where}{decoded.reason}: {decoded.detail}")
    return decoded.pixels


def _size(content: bytes) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:  # no more than its head is read
            return image.size
    except Exception:  # decode says what is wrong with it
        return 0, 0


def _picture(body: bytes, settings: Preprocessing, limits: Limits) -> list[bytes]:
    return [_read_picture(body, settings, limits, _Decoding())]


def _csv(body: bytes, settings: Preprocessing, limits: Limits) -> list[bytes]:
    try:
        lines = io.StringIO(body.decode("utf-8-sig"), newline=None)
    except UnicodeDecodeError as error:
        raise BodyError(400, f"the CSV is not UTF-8: {error.reason} at byte {error.start}") from error
    pictures: list[bytes] = []
    labelled = False
    for number, line in enumerate(lines, 1):
        if len(line) > _LINE:
            raise BodyError(422, f"line {number}: {len(line):,} characters; {_LINE:,} are the most")
        if number > 2 * limits.pictures + 2:
            raise BodyError(413, f"more than {2 * limits.pictures + 2:,} lines; {_most_pictures(limits)}")
        bare = line.strip().replace('"', "").replace(" ", "")
        if number == 1 and bare in (HEADER, UNLABELLED_HEADER):
            labelled = bare == HEADER
        elif bare:
            parsed = parse_line(line.strip(), labelled)
            if parsed.pixels is None:
                raise BodyError(422, f"line {number}: {parsed.reason}: {parsed.detail}")
            if len(pictures) == limits.pictures:
                raise BodyError(413, f"line {number}: one picture too many; {_most_pictures(limits)}")
            pictures.append(resize_pixels(parsed.pixels, (SIDE, SIDE, 1), settings))
    _check_count(len(pictures), limits)
    return pictures


def _json(body: bytes, settings: Preprocessing, limits: Limits) -> list[bytes]:
    """``{"instances": [...]}``: each an array of pixels or ``{"b64": "..."}``, a picture's file."""
    # before each value but the first stands one of these, and within the strings that are meant none does
    values = sum(body.count(mark) for mark in (b",", b"[", b"{"))
    if values > limits.values:
        most = f"{limits.values:,} are the most; b64 and application/x-npy take more pictures"
        raise BodyError(413, f"{values:,} numbers, lists and objects in the JSON; {most}")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BodyError(400, f"no JSON: {error}") from error
    instances = content.get("instances") if isinstance(content, dict) else None
    if not isinstance(instances, list):
        raise BodyError(400, 'the JSON is not {"instances": [...]}')
    _check_count(len(instances), limits)
    decoding = _Decoding()
    return [
        _instance(instance, settings, limits, decoding, f"instances[{place}]: ")
        for place, instance in enumerate(instances)
    ]


def _instance(instance: Any, settings: Preprocessing, limits: Limits, decoding: _Decoding, where: str) -> bytes:
    if isinstance(instance, dict):
        encoded = instance.get("b64")
        if not isinstance(encoded, str):
            raise BodyError(422, f'{where}an object without "b64", a picture\'s file in base 64')
        return _read_picture(_decode_base64(encoded, where), settings, limits, decoding, where)
    return from_lists(instance, settings, where)


def _decode_base64(encoded: str, where: str) -> bytes:
    """A picture's file: in lines or in one, with either alphabet, as a data URI or without its head."""
    head = _DATA_URI.match(encoded)
    if head is None and encoded[:5].lower() == "data:":
        raise BodyError(422, f"{where}b64 is a data URI without ;base64, at its beginning: {cut(encoded)}")
    try:
        digits = encoded[head.end() if head else 0 :].encode("ascii").translate(_BASE64, b" \t\r\n")
        return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except ValueError as error:
        raise BodyError(422, f"{where}b64 is no base 64: {cut(str(error))}") from error


def _numpy(body: bytes, settings: Preprocessing, limits: Limits) -> list[bytes]:
    array = read_npy(body)
    if array.ndim == 0:
        raise BodyError(400, "no NumPy array (.npy) of pictures")
    # one picture is a row of pixels, or height and width that are not a number of rows
    rows = array[np.newaxis] if array.ndim == 1 or array.shape in shapes(settings) else array
    _check_count(len(rows), limits)
    return [from_array(row, settings, f"[{place}]: ") for place, row in enumerate(rows)]


def _check_count(count: int, limits: Limits) -> None:
    if count == 0:
        raise BodyError(400, "there is no picture in the body")
    if count > limits.pictures:
        raise BodyError(413, f"{count:,} pictures; {_most_pictures(limits)}")


def _most_pictures(limits: Limits) -> str:
    return f"{limits.pictures:,} a request are the most"


CONTENT_TYPES: dict[str, Callable[[bytes, Preprocessing, Limits], list[bytes]]] = {
    "image/jpeg": _picture,
    "image/png": _picture,
    "text/csv": _csv,
    "application/json": _json,
    "application/x-npy": _numpy,
}
