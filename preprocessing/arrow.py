"""Conversion between Arrow columns and NumPy arrays, without a copy and without a loop over rows."""

import numpy as np
import pyarrow as pa


def content(values: pa.Array) -> memoryview:
    """The concatenated bytes of all strings or binary values, as they are in memory."""
    if len(values) == 0:
        return memoryview(b"")
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)[values.offset : values.offset + len(values) + 1]
    return memoryview(data)[ends[0] : ends[-1]]


def to_rows(values: pa.BinaryArray) -> np.ndarray:
    """Convert binary values of equal length to ``uint8`` of shape ``(values, length)``."""
    return np.frombuffer(content(values), dtype=np.uint8).reshape(len(values), -1)


def from_rows(rows: np.ndarray) -> pa.BinaryArray:
    """Convert each row of ``uint8`` numbers to a binary value."""
    return pa.BinaryArray.from_buffers(pa.binary(), len(rows), [None, _offsets(rows), pa.py_buffer(rows)])


def lists(rows: np.ndarray) -> pa.ListArray:
    """Convert each row of numbers to a list."""
    offsets = pa.Array.from_buffers(pa.int32(), len(rows) + 1, [None, _offsets(rows)])
    return pa.ListArray.from_arrays(offsets, rows.ravel())


def _offsets(rows: np.ndarray) -> pa.Buffer:
    count, width = rows.shape
    return pa.py_buffer(np.arange(count + 1, dtype=np.int32) * np.int32(width))
