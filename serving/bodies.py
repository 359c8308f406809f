"""Parsing of request bodies to rows of pixels: JPEG, PNG, CSV, JSON or NumPy, one picture or many."""

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

from preprocessing.data_settings import Preprocessing
from preprocessing.decoding import MIN_SEARCHED_SIDE, Decoded, decode, resize_pixels
from preprocessing.parsing import HEADER, SIDE, UNLABELED_HEADER, parse_line
from serving.errors import BodyError, shorten
from serving.limits import Limits
from serving.picture_files import declared_pixels, strip_metadata
from serving.pixel_arrays import from_array, from_lists, read_npy, shapes

# Pillow's other decoders are not hardened against files from untrusted clients.
_FORMATS = ("JPEG", "PNG")
# A search for a hand takes as long as decoding this many pixels.
_SEARCH_COST = 800_000
# Characters of a CSV line: 784 numbers take about 3,000, and may have spaces, quotes and leading zeros.
_MAX_LINE = 64 * 1024
# Decoding passes over each pixel once, or once per scan of a progressive JPEG; encoders write ten scans.
_MAX_PASSES = 10
# From the URL-safe alphabet of base64 to the standard one.
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_DATA_URI = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_GZIP = ("gzip", "x-gzip")
CONTENT_ENCODINGS = ("", "identity", *_GZIP)


def read_body(
    body: bytes, content_type: str, settings: Preprocessing, limits: Limits, encoding: str = ""
) -> list[Decoded]:
    """Read pictures, crop them to their hands and bring them to the size and color of the run's pictures.

    The cost of a body is checked before it arises: nothing is decompressed, decoded or converted to an array before its
    size is known.

    Args:
        body: of the request.
        content_type: one of ``CONTENT_TYPES``; parameters such as a charset are ignored.
        settings: preprocessing of the run.
        limits: of the server.
        encoding: one of ``CONTENT_ENCODINGS``.

    Returns:
        The pictures, all of which have pixels.

    Raises:
        BodyError: 415 for an unknown content type, 413 if a limit is exceeded, 400 if the body is not of its content
            type, 422 for a picture or row that cannot be used.
    """
    media_type = content_type.split(";")[0].strip().lower()
    if media_type not in CONTENT_TYPES:
        allowed = ", ".join(CONTENT_TYPES)
        raise BodyError(415, f"Content-Type {shorten(media_type) or 'is missing'}; it is one of {allowed}")
    if encoding in _GZIP:
        body = _unzip(body, limits)
    if not body:
        raise BodyError(400, "the body is empty")
    return CONTENT_TYPES[media_type](body, settings, limits)


def pixels_of(pictures: list[Decoded]) -> np.ndarray:
    """The pixels of pictures, ``uint8`` of shape ``(n, pixels)``."""
    return np.stack([np.frombuffer(picture.pixels or b"", dtype=np.uint8) for picture in pictures])


def reading_cost(body: bytes, content_type: str, settings: Preprocessing, encoding: str = "") -> float:
    """Estimated cost of reading a body, in decoded pixels; infinite if it is not known before the body is read."""
    if encoding in _GZIP:
        return math.inf
    if content_type.strip().lower().startswith("image/"):
        return declared_pixels(body) + (_SEARCH_COST if settings.crop == "hand" else 0)
    # more than one object means picture files, {"b64": "..."}, within the outer object
    return math.inf if "json" in content_type.lower() and body.count(b"{") > 1 else len(body)


def _unzip(body: bytes, limits: Limits) -> bytes:
    decompressor = zlib.decompressobj(wbits=31)
    try:
        unpacked = decompressor.decompress(body, limits.body + 1)
    except zlib.error as error:
        raise BodyError(400, f"Content-Encoding gzip, but the body is not gzip: {error}") from error
    if len(unpacked) > limits.body:
        raise BodyError(413, f"a body of more than {limits.body:,} bytes when it is unpacked")
    if not decompressor.eof or decompressor.unused_data:
        problem = "something follows it" if decompressor.eof else "it ends too soon"
        raise BodyError(400, f"Content-Encoding gzip, but the body is not one complete gzip file: {problem}")
    return unpacked


@dataclass
class _DecodingCost:
    """Total cost of decoding the pictures of a request, from the headers that have been read."""

    pixels: int = 0
    scanned_pixels: int = 0  # each pixel counts once per scan
    searches: int = 0

    def add(self, width: int, height: int, scans: int, is_searched: bool, limits: Limits) -> None:
        self.searches += is_searched
        if self.searches > limits.searches:
            raise BodyError(
                413, f"{self.searches:,} pictures to search for a hand; {limits.searches:,} a request are the most"
            )
        self.pixels += width * height
        self.scanned_pixels += width * height * scans
        size = f"{width} x {height}"
        if self.pixels > limits.pixels:
            total = f"{size}, {self.pixels:,} pixels in all"
            raise BodyError(413, f"too large a picture: {total}; {limits.pixels:,} a request are the most")
        max_scanned_pixels = _MAX_PASSES * limits.pixels
        if self.scanned_pixels > max_scanned_pixels:
            total = f"{size} in {scans} scans, {self.scanned_pixels:,} pixels in all"
            raise BodyError(413, f"too costly a picture: {total}; {max_scanned_pixels:,} a request are the most")


def _read_picture(
    content: bytes, settings: Preprocessing, limits: Limits, cost: _DecodingCost, prefix: str = ""
) -> Decoded:
    """Decode a JPEG or PNG as in training; error messages begin with ``prefix``, the picture's position."""
    try:
        stripped, scans = strip_metadata(content)
        size = _size(stripped)
        cost.add(*size, scans, settings.crop == "hand" and min(size) >= MIN_SEARCHED_SIDE, limits)
    except BodyError as error:
        raise BodyError(error.status, f"{prefix}{error}") from error
    decoded = decode(stripped, settings, _FORMATS)
    if decoded.pixels is None:
        status = 413 if decoded.reason == "too large a picture" else 422
        raise BodyError(status, f"{prefix}{decoded.reason}: {decoded.detail}")
    return decoded


def _size(content: bytes) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:  # reads only the header
            return image.size
    except Exception:  # decode reports the reason
        return 0, 0


def _picture(body: bytes, settings: Preprocessing, limits: Limits) -> list[Decoded]:
    return [_read_picture(body, settings, limits, _DecodingCost())]


def _csv(body: bytes, settings: Preprocessing, limits: Limits) -> list[Decoded]:
    try:
        lines = io.StringIO(body.decode("utf-8-sig"), newline=None)
    except UnicodeDecodeError as error:
        raise BodyError(400, f"the CSV is not UTF-8: {error.reason} at byte {error.start}") from error
    pictures: list[Decoded] = []
    labeled = False
    for number, line in enumerate(lines, 1):
        if len(line) > _MAX_LINE:
            raise BodyError(422, f"line {number}: {len(line):,} characters; {_MAX_LINE:,} are the most")
        if number > 2 * limits.pictures + 2:
            raise BodyError(413, f"more than {2 * limits.pictures + 2:,} lines; {_most_pictures(limits)}")
        plain = line.strip().replace('"', "").replace(" ", "")
        if number == 1 and plain in (HEADER, UNLABELED_HEADER):
            labeled = plain == HEADER
        elif plain:
            parsed = parse_line(line.strip(), labeled)
            if parsed.pixels is None:
                raise BodyError(422, f"line {number}: {parsed.reason}: {parsed.detail}")
            if len(pictures) == limits.pictures:
                raise BodyError(413, f"line {number}: one picture too many; {_most_pictures(limits)}")
            pictures.append(Decoded(resize_pixels(parsed.pixels, (SIDE, SIDE, 1), settings)))
    _check_count(len(pictures), limits)
    return pictures


def _json(body: bytes, settings: Preprocessing, limits: Limits) -> list[Decoded]:
    """Read ``{"instances": [...]}``: each instance is an array of pixels, or ``{"b64": "..."}`` with a picture file."""
    # one of these characters precedes each value but the first, and base64 contains none of them
    values = sum(body.count(character) for character in (b",", b"[", b"{"))
    if values > limits.values:
        allowed = f"{limits.values:,} are the most; b64 and application/x-npy take more pictures"
        raise BodyError(413, f"{values:,} numbers, lists and objects in the JSON; {allowed}")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BodyError(400, f"no JSON: {error}") from error
    instances = content.get("instances") if isinstance(content, dict) else None
    if not isinstance(instances, list):
        raise BodyError(400, 'the JSON is not {"instances": [...]}')
    _check_count(len(instances), limits)
    cost = _DecodingCost()
    return [
        _instance(instance, settings, limits, cost, f"instances[{index}]: ") for index, instance in enumerate(instances)
    ]


def _instance(instance: Any, settings: Preprocessing, limits: Limits, cost: _DecodingCost, prefix: str) -> Decoded:
    if isinstance(instance, dict):
        encoded = instance.get("b64")
        if not isinstance(encoded, str):
            raise BodyError(422, f'{prefix}an object without "b64", a picture file in base 64')
        return _read_picture(_decode_base64(encoded, prefix), settings, limits, cost, prefix)
    return Decoded(from_lists(instance, settings, prefix))


def _decode_base64(encoded: str, prefix: str) -> bytes:
    """Decode a picture file: with or without line breaks, in either alphabet, as a data URI or plain base64."""
    uri_head = _DATA_URI.match(encoded)
    if uri_head is None and encoded[:5].lower() == "data:":
        raise BodyError(422, f"{prefix}b64 is a data URI without ;base64, at its beginning: {shorten(encoded)}")
    try:
        digits = encoded[uri_head.end() if uri_head else 0 :].encode("ascii").translate(_URL_SAFE, b" \t\r\n")
        return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except ValueError as error:
        raise BodyError(422, f"{prefix}b64 is no base 64: {shorten(str(error))}") from error


def _numpy(body: bytes, settings: Preprocessing, limits: Limits) -> list[Decoded]:
    array = read_npy(body)
    if array.ndim == 0:
        raise BodyError(400, "no NumPy array (.npy) of pictures")
    # a single picture is one row of pixels, or has one of the shapes of a picture
    rows = array[np.newaxis] if array.ndim == 1 or array.shape in shapes(settings) else array
    _check_count(len(rows), limits)
    return [Decoded(from_array(row, settings, f"[{index}]: ")) for index, row in enumerate(rows)]


def _check_count(count: int, limits: Limits) -> None:
    if count == 0:
        raise BodyError(400, "there is no picture in the body")
    if count > limits.pictures:
        raise BodyError(413, f"{count:,} pictures; {_most_pictures(limits)}")


def _most_pictures(limits: Limits) -> str:
    return f"{limits.pictures:,} a request are the most"


CONTENT_TYPES: dict[str, Callable[[bytes, Preprocessing, Limits], list[Decoded]]] = {
    "image/jpeg": _picture,
    "image/png": _picture,
    "text/csv": _csv,
    "application/json": _json,
    "application/x-npy": _numpy,
}
