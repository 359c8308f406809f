"""Lines of Sign-MNIST's CSV to labels and pixels, each refused line with its reason."""

import csv
import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from preprocessing.labels import LETTERS, STILL_LETTERS

SIDE = 28
PIXELS = SIDE * SIDE
HEADER = ",".join(["label", *(f"pixel{i}" for i in range(1, PIXELS + 1))])

_STILL = np.array([letter in STILL_LETTERS for letter in LETTERS])
# Arrow reads twice as fast what fits in the processor's cache.
_BLOCK_BYTES = 1024 * 1024
_INTEGER = re.compile(r"\d+", re.ASCII)


@dataclass(frozen=True)
class ParsedLine:
    """A line of the file: a letter and its 784 pixels, or the kind of fault and what exactly was found."""

    label: str | None = None
    pixels: bytes | None = None
    reason: str | None = None
    detail: str | None = None


def parse_line(line: str) -> ParsedLine:
    """Parse one data line.

    Args:
        line: ``label,pixel1,...,pixel784``, the label 0..25 for A..Z, each pixel an integer 0..255.
    """
    try:
        fields = [field.strip() for field in next(csv.reader([line], strict=True), [])]
    except csv.Error as error:
        return _refused("not CSV", str(error))
    if len(fields) != PIXELS + 1:
        kind = "too few fields" if len(fields) < PIXELS + 1 else "too many fields"
        return _refused(kind, f"{len(fields)}, {PIXELS + 1} expected")
    number = _integer(fields[0])
    if number is None or number >= len(LETTERS):
        return _refused("label outside the letters", f"{_shown(fields[0])}, 0..25 expected")
    letter = LETTERS[number]
    if letter not in STILL_LETTERS:
        return _refused("label J or Z", f"{letter} is moved, no still picture shows it")
    pixels = [_integer(field) for field in fields[1:]]
    for position, (pixel, field) in enumerate(zip(pixels, fields[1:], strict=True), 1):
        if field == "":
            return _refused("missing pixel", f"pixel{position} is empty")
        if pixel is None:
            return _refused("pixel not an integer", f"pixel{position} is {_shown(field)}")
        if pixel > 255:
            return _refused("pixel out of range", f"pixel{position} is {_shown(field)}, 0..255 expected")
    return ParsedLine(letter, bytes(pixel for pixel in pixels if pixel is not None))


def parse_clean(text: bytes | memoryview, rows: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Parse data lines at once, if there is no fault in them.

    Args:
        text: the lines, each with a line feed at its end.
        rows: how many they are.

    Returns:
        The labels, ``uint8`` of shape ``(rows,)``, places in ``LETTERS``, and the pixels, ``uint8`` ``(rows, 784)``; or
        none, where a line has a fault.
    """
    # Arrow takes hexadecimal and signed numbers too; what is not digits and commas is left to the line by line reading.
    if not rows or bytes(text).translate(None, b"0123456789,\n"):
        return None
    names = [str(i) for i in range(PIXELS + 1)]
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(text),
            read_options=pa_csv.ReadOptions(column_names=names, use_threads=False, block_size=_BLOCK_BYTES),
            parse_options=pa_csv.ParseOptions(ignore_empty_lines=False),
            convert_options=pa_csv.ConvertOptions(column_types={name: pa.uint8() for name in names}),
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows != rows or any(column.null_count for column in table.columns):
        return None
    labels = table.column(0).to_numpy()
    if labels.max() >= len(LETTERS) or not _STILL[labels].all():
        return None
    return labels, np.stack([column.to_numpy() for column in table.columns[1:]]).T.copy()


def _refused(reason: str, detail: str) -> ParsedLine:
    return ParsedLine(reason=reason, detail=detail)


def _integer(field: str) -> int | None:
    """The value of a field of digits alone; cut to ten digits, which are out of every range here all the same."""
    return int(field.lstrip("0")[:10] or 0) if _INTEGER.fullmatch(field) else None


def _shown(value: str) -> str:
    return repr(value if len(value) <= 20 else f"{value[:20]}…")
