"""Files and bodies that are small to send, but take much memory or time to read."""

import gzip
import io
import json
import struct
import zlib

from PIL import Image

MB = 1024 * 1024


def saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, side: int = 28, bits: int = 8, color: int = 0) -> bytes:
    """A black PNG with additional chunks before its pixels; color 6 is RGBA."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, bits, color, 0, 0, 0))
    row_bytes = 1 + side * bits * (4 if color == 6 else 1) // 8
    pixels = chunk(b"IDAT", zlib.compress(bytes(side * row_bytes)))
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *chunks, pixels, chunk(b"IEND", b"")])


def jpeg(*segments: bytes, side: int = 28) -> bytes:
    """A black JPEG with additional segments before its pixels."""
    plain = saved(Image.new("L", (side, side)), "JPEG")
    return b"".join([plain[:2], *segments, plain[2:]])


def segment(code: int, data: bytes) -> bytes:
    return bytes([0xFF, code]) + struct.pack(">H", len(data) + 2) + data


def jpeg_of_scans(count: int, side: int) -> bytes:
    """A progressive JPEG whose last scan is repeated ``count`` times, without data."""
    plain = saved(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    start = plain.rindex(b"\xff\xda")
    return plain[:-2] + plain[start : start + 2 + plain[start + 3]] * count + b"\xff\xd9"


def exif_of_tags(count: int) -> bytes:
    """EXIF data whose tags all point at the same 50 kB."""
    tags = b"".join(struct.pack(">HHLL", 1000 + number, 1, 40_000, 8) for number in range(count))
    return b"Exif\0\0MM\0*" + struct.pack(">LH", 8, count) + tags + bytes(50_000 - len(tags))


def npy(shape: str, descr: str = "'|u1'", data: bytes = b"") -> bytes:
    """An .npy file with any header."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def instances(content: object) -> bytes:
    return json.dumps({"instances": content}).encode()


# Content-Type, body, status of the answer and a part of its error message.
BODIES: dict[str, tuple[str, bytes, int, str]] = {
    "a long string among short ones": (
        "application/json", instances([["a" * MB, *["b"] * 5000]]), 422, "instances[0]: shape (5001,)"),
    "a long string for a pixel": (
        "application/json", instances([["a" * MB, *["b"] * 783]]), 422, "not 'aaa"),
    "a million lists": ("application/json", b'{"instances":[' + b"[]," * MB + b"0]}", 413, "1,000,000 are the most"),
    "lists of mixed depth": ("application/json", instances([[[1], [[2]]]]), 422, "[0]: shape (2, 1)"),
    "lists beside numbers": ("application/json", instances([[[1], 2]]), 422, "lists beside numbers"),
    "lists within lists": (
        "application/json", b'{"instances":' + b"[" * 900 + b"]" * 900 + b"}", 422, "instances[0]: shape (1, 1"),
    "huge numbers": ("application/json", instances([[10**4000] * 784]), 422, "not 1000"),
    "booleans": ("application/json", instances([[True] * 784]), 422, "not True"),
    "objects for pixels": ("application/json", instances([[{"a": 1}] * 784]), 422, "not an object"),
    "null": ("application/json", instances([None]), 422, "shape ()"),
    "many keys": (
        "application/json", instances([{str(key): 0 for key in range(100_000)}]), 422, 'an object without "b64"'),
    "a long string that is not base64": ("application/json", instances([{"b64": "é" * MB}]), 422, "b64 is no base 64"),
    "a declared terabyte": ("application/x-npy", npy("(1000000000000, 784)"), 400, "0 bytes follow"),
    "negative dimensions": ("application/x-npy", npy("(-1, -784)", data=bytes(784)), 400, "784 bytes follow"),
    "too many dimensions": ("application/x-npy", npy(f"({'1,' * 40})", data=bytes(784)), 400, "dimension"),
    "a boolean dimension": ("application/x-npy", npy("(True, 784)", data=bytes(784)), 400, "shape (True, 784)"),
    "a huge dimension beside a zero": ("application/x-npy", npy(f"(0, {10**30})"), 400, "shape (0, 1000"),
    "a structured dtype": (
        "application/x-npy", npy("(1,)", "[('a', '<f8', (99, 99))]", bytes(80_000)), 400, "of numbers"),
    "empty strings": ("application/x-npy", npy("(1000000000,)", "'|U0'"), 400, "of numbers"),
    "an archive": ("application/x-npy", b"PK\x03\x04" + bytes(1000), 400, "no NumPy array"),
    "a giant line": ("text/csv", b"1," * (4 * MB), 422, "65,536 are the most"),
    "a giant field": ("text/csv", b"1" * (8 * MB), 422, "65,536 are the most"),
    "empty lines": ("text/csv", b"\n" * (8 * MB), 413, "more than 1,026 lines"),
    "many lines": ("text/csv", (b"0," * 783 + b"0\n") * 513, 413, "line 513: one picture too many"),
    "2,000 scans": ("image/jpeg", jpeg_of_scans(2000, 1000), 413, "more than 100 scans"),
    "large scans": ("image/jpeg", jpeg_of_scans(50, 4000), 413, "250,000,000 a request"),
    "a million comments": ("image/jpeg", jpeg(segment(0xFE, b"") * MB), 413, "more than 1,000 segments"),
    "a million markers": ("image/jpeg", jpeg(b"\xff\xd0" * MB), 413, "more than 1,000 segments"),
    "fill bytes": ("image/jpeg", jpeg()[:20] + b"\xff" * MB, 422, "truncated picture"),
    "a million empty chunks": ("image/png", png(chunk(b"IDAT", b"") * (MB // 2)), 413, "more than 10,000 chunks"),
    "a million text chunks": ("image/png", png(chunk(b"tEXt", b"a\0b") * (MB // 2)), 413, "more than 10,000 chunks"),
    "a large PNG": ("image/png", png(side=6000), 413, "25,000,000 a request"),
}  # fmt: skip
# Valid pictures that are costly if all of the file is read.
PICTURES: dict[str, tuple[str, bytes]] = {
    "EXIF tags that point at the same bytes": ("image/jpeg", jpeg(segment(0xE1, exif_of_tags(4000)))),
    "a color profile of 128 MB": ("image/png", png(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(128 * MB))))),
    "text of 128 MB": ("image/png", png(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(128 * MB))))),
}
# The largest allowed picture, in the mode that takes the most memory.
LARGE = png(side=4900, bits=16, color=6)
GZIP_BOMB = gzip.compress(bytes(256 * MB))
