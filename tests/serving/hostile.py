"""Files and bodies that are small to send and large, or long, to read."""

import gzip
import io
import json
import struct
import zlib

from PIL import Image

MB = 1024 * 1024


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, side: int = 28, bits: int = 8, color: int = 0) -> bytes:
    """A black PNG with more chunks before its pixels; color 6 is RGBA."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, bits, color, 0, 0, 0))
    row = 1 + side * bits * (4 if color == 6 else 1) // 8
    pixels = chunk(b"IDAT", zlib.compress(bytes(side * row)))
    return b"".join([b"\x89PNG\r\n\x1a\n", head, *chunks, pixels, chunk(b"IEND", b"")])


def jpeg(*segments: bytes, side: int = 28) -> bytes:
    """A black JPEG with more segments before its pixels."""
    plain = saved(Image.new("L", (side, side)), "JPEG")
    return b"".join([plain[:2], *segments, plain[2:]])


def segment(code: int, data: bytes) -> bytes:
    return bytes([0xFF, code]) + struct.pack(">H", len(data) + 2) + data


def jpeg_of_scans(count: int, side: int) -> bytes:
    """A progressive JPEG whose last scan comes so often more, without data."""
    plain = saved(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    start = plain.rindex(b"\xff\xda")
    return plain[:-2] + plain[start : start + 2 + plain[start + 3]] * count + b"\xff\xd9"


def exif_of_tags(count: int) -> bytes:
    """EXIF whose tags all point at the same 50 kB."""
    tags = b"".join(struct.pack(">HHLL", 1000 + number, 1, 40_000, 8) for number in range(count))
    return b"Exif\0\0MM\0*" + struct.pack(">LH", 8, count) + tags + bytes(50_000 - len(tags))


def npy(shape: str, descr: str = "'|u1'", data: bytes = b"") -> bytes:
    """A NumPy file whose head says whatever it likes."""
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (63 - (len(head) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


def instances(content: object) -> bytes:
    return json.dumps({"instances": content}).encode()


# Content-Type, body, the status and a part of what is said.
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
    "truth values": ("application/json", instances([[True] * 784]), 422, "not True"),
    "objects for pixels": ("application/json", instances([[{"a": 1}] * 784]), 422, "not an object"),
    "nothing": ("application/json", instances([None]), 422, "shape ()"),
    "many keys": (
        "application/json", instances([{str(key): 0 for key in range(100_000)}]), 422, 'an object without "b64"'),
    "a long string that is no base 64": ("application/json", instances([{"b64": "é" * MB}]), 422, "b64 is no base 64"),
    "a promise of a terabyte": ("application/x-npy", npy("(1000000000000, 784)"), 400, "0 bytes follow"),
    "sides below nought": ("application/x-npy", npy("(-1, -784)", data=bytes(784)), 400, "784 bytes follow"),
    "sides that are too many": ("application/x-npy", npy(f"({'1,' * 40})", data=bytes(784)), 400, "dimension"),
    "a side that is no number": ("application/x-npy", npy("(True, 784)", data=bytes(784)), 400, "shape (True, 784)"),
    "a side without end beside nought": ("application/x-npy", npy(f"(0, {10**30})"), 400, "shape (0, 1000"),
    "a structure": ("application/x-npy", npy("(1,)", "[('a', '<f8', (99, 99))]", bytes(80_000)), 400, "of numbers"),
    "strings of no length": ("application/x-npy", npy("(1000000000,)", "'|U0'"), 400, "of numbers"),
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
    "a million words": ("image/png", png(chunk(b"tEXt", b"a\0b") * (MB // 2)), 413, "more than 10,000 chunks"),
    "a large PNG": ("image/png", png(side=6000), 413, "25,000,000 a request"),
}  # fmt: skip
# Costly to whoever reads all that is in the file, and a picture.
PICTURES: dict[str, tuple[str, bytes]] = {
    "tags that point at the same bytes": ("image/jpeg", jpeg(segment(0xE1, exif_of_tags(4000)))),
    "a profile of 128 MB": ("image/png", png(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(128 * MB))))),
    "words of 128 MB": ("image/png", png(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(128 * MB))))),
}
# As large as a picture may be, in the mode that takes most memory.
LARGE = png(side=4900, bits=16, color=6)
GZIP_BOMB = gzip.compress(bytes(256 * MB))
