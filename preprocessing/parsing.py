"""Parsing of Sign-MNIST's CSV lines into labels and pixels; a line that is refused has a reason."""

import csv
import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from preprocessing.arrow import content
from preprocessing.labels import LETTERS, STILL_LETTERS

SIDE = 28
PIXELS = SIDE * SIDE
UNLABELED_HEADER = ",".join(f"pixel{i}" for i in range(1, PIXELS + 1))
HEADER = f"label,{UNLABELED_HEADER}"

_IS_STILL = np.array([letter in STILL_LETTERS for letter in LETTERS])
# The arrays for this many lines fit in the processor's cache.
_BLOCK_ROWS = 256
_INTEGER = re.compile(r"\d+", re.ASCII)


@dataclass(frozen=True)
class ParsedLine:
    """A line of the file: a letter and its 784 pixels, or the reason why it is invalid, with details."""

    label: str | None = None
    pixels: bytes | None = None
    reason: str | None = None
    detail: str | None = None


def parse_line(line: str, labeled: bool = True) -> ParsedLine:
    """Parse one data line.

    Args:
        line: ``label,pixel1,...,pixel784``; the label is 0..25 for A..Z, each pixel is an integer 0..255.
        labeled: whether the line begins with a label.
    """
    try:
        fields = [field.strip() for field in next(csv.reader([line], strict=True), [])]
    except csv.Error as error:
        return _refused("not CSV", str(error))
    expected = PIXELS + labeled
    if len(fields) != expected:
        reason = "too few fields" if len(fields) < expected else "too many fields"
        return _refused(reason, f"{len(fields)}, {expected} expected")
    letter = None
    if labeled:
        label, *fields = fields
        number = _integer(label)
        if number is None or number >= len(LETTERS):
            return _refused("label outside the letters", f"{_shown(label)}, 0..25 expected")
        letter = LETTERS[number]
        if letter not in STILL_LETTERS:
            return _refused("label J or Z", f"the sign for {letter} moves, so no still picture shows it")
    pixels = [_integer(field) for field in fields]
    for position, (pixel, field) in enumerate(zip(pixels, fields, strict=True), 1):
        if field == "":
            return _refused("missing pixel", f"pixel{position} is empty")
        if pixel is None:
            return _refused("pixel not an integer", f"pixel{position} is {_shown(field)}")
        if pixel > 255:
            return _refused("pixel out of range", f"pixel{position} is {_shown(field)}, 0..255 expected")
    return ParsedLine(letter, bytes(pixel for pixel in pixels if pixel is not None))


def parse_clean(lines: pa.StringArray, labeled: bool = True) -> tuple[np.ndarray | None, np.ndarray] | None:
    """Parse many data lines at once, if all of them are valid.

    Args:
        lines: the lines, each with a line feed at its end.
        labeled: whether the lines begin with a label.

    Returns:
        The labels, ``uint8`` of shape ``(rows,)``, indices into ``LETTERS`` (None if the lines have no labels), and the
        pixels, ``uint8`` of shape ``(rows, 784)``. None: a line may be invalid, and each has to be parsed by
        :func:`parse_line`.
    """
    values = np.empty((len(lines), PIXELS + labeled), dtype=np.uint8)
    for start in range(0, len(lines), _BLOCK_ROWS):
        block = values[start : start + _BLOCK_ROWS]
        if not _parse_block(np.frombuffer(content(lines[start : start + _BLOCK_ROWS]), dtype=np.uint8), block):
            return None
    if not labeled:
        return (None, values) if len(lines) else None
    labels = values[:, 0]
    if not len(lines) or labels.max() >= len(LETTERS) or not _IS_STILL[labels].all():
        return None
    return labels, np.ascontiguousarray(values[:, 1:])


def _parse_block(characters: np.ndarray, values: np.ndarray) -> bool:
    """Parse as many lines as ``values`` has rows into it; False if they are not all numbers 0..255."""
    digits = characters - np.uint8(ord("0"))  # Characters below "0" wrap around to values above 9.
    is_digit = digits < 10
    ends = np.flatnonzero(~is_digit)
    if ends.size != values.size:
        return False
    separators = characters[ends].reshape(values.shape)
    widths = np.diff(ends, prepend=-1) - 1
    if (separators[:, :-1] != ord(",")).any() or (separators[:, -1] != ord("\n")).any():
        return False
    if widths.min() < 1 or widths.max() > 3:
        return False
    # Treat every byte as the last digit of a number: adding whole arrays is faster than selecting single numbers first.
    digits *= is_digit
    below_hundred = digits.copy()
    below_hundred[1:] += digits[:-1] * np.uint8(10)
    hundreds = np.zeros_like(digits)
    hundreds[2:] = digits[:-2] * is_digit[1:-1]
    below_hundred, hundreds = below_hundred[ends - 1], hundreds[ends - 1]
    np.add(below_hundred, hundreds * np.uint8(100), out=values.reshape(-1))
    # 256 to 299 have wrapped around to values below their last two digits.
    return bool(hundreds.max() <= 2 and (values.reshape(-1) >= below_hundred).all())


def _refused(reason: str, detail: str) -> ParsedLine:
    return ParsedLine(reason=reason, detail=detail)


def _integer(field: str) -> int | None:
    """The value of a field that has only digits; cut to ten digits, which are still out of every range used here."""
    return int(field.lstrip("0")[:10] or 0) if _INTEGER.fullmatch(field) else None


def _shown(value: str) -> str:
    return repr(value if len(value) <= 20 else f"{value[:20]}…")
