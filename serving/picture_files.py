"""JPEG and PNG files, stripped of what costs time and memory to read and is not needed for their pixels.

Pillow reads everything before the first pixel, in Python: a million empty comments take it seconds, and an EXIF
directory whose tags all point at the same bytes takes many times its size in memory. Files from cameras and programs
have few parts. A file is therefore copied part by part, within limits, and Pillow gets only the parts that it needs for
the pixels and the orientation.
"""

import itertools
import re
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from serving.errors import BodyError

# A JPEG segment has up to 64 kB: the color profiles, previews and gain maps of cameras take a few tens of segments.
_MAX_SEGMENTS = 1_000
# A progressive JPEG refines every pixel with each scan. Encoders write 10 scans, the most thorough ones about 20.
_MAX_SCANS = 100
# Programs write the pixels of a PNG in chunks of 8 kB or more: 8 MB are a thousand chunks.
_MAX_CHUNKS = 10_000

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_MARKER = re.compile(rb"\xff[^\xff]", re.DOTALL)
# The header of a scan. Its length follows from its number of components, so that other bytes rarely match by chance.
_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
_START_OF_SCAN, _EXIF_OR_XMP = 0xDA, 0xE1
_WITHOUT_CONTENT = {0x00, 0x01, *range(0xD0, 0xDA)}
# Frames, tables, and the JFIF and Adobe segments, which name the color space. 0xE2 is left out: in files from phones it
# lists the other pictures behind the first.
_NEEDED_SEGMENTS = {*range(0xC0, 0xD0), 0xDB, 0xDC, 0xDD, 0xE0, 0xEE}
_FRAMES, _PROGRESSIVE = {0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA, 0xCB}, 0xC2
_EXIF, _XMP = b"Exif\x00\x00", b"http://ns.adobe.com/xap/1.0/\x00"
_ORIENTATION = 0x0112
_XMP_OF_PNG = b"XML:com.adobe.xmp\x00"
_NEEDED_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IEND"}


def strip_metadata(content: bytes) -> tuple[bytes, int]:
    """Keep only the parts that a file's pixels and orientation need; a file of another format stays as it is.

    Of several pictures in a JPEG, as phones write them, only the first is kept.

    Args:
        content: of the file.

    Returns:
        The stripped file, and the number of times that decoding passes over each of its pixels.

    Raises:
        BodyError: 413 if the file has too many parts; 422 if its list of parts is damaged or it is an animation.
    """
    if content.startswith(_JPEG):
        return _strip_jpeg(content)
    return (_strip_png(content) if content.startswith(_PNG) else content), 1


def declared_pixels(content: bytes) -> int:
    """Number of pixels that the header of a JPEG or PNG declares, times the passes over them; 0 if there is none."""
    if content.startswith(_PNG):
        return int.from_bytes(content[16:20], "big") * int.from_bytes(content[20:24], "big")
    try:
        frames = (segment for segment in _segments(content) if segment[0] in _FRAMES)
        code, frame, _ = next(frames, (0, b"", b""))
    except BodyError:
        return 0
    height, width = int.from_bytes(frame[5:7], "big"), int.from_bytes(frame[7:9], "big")
    return width * height * (10 if code == _PROGRESSIVE else 1)


def _strip_jpeg(content: bytes) -> tuple[bytes, int]:
    kept: list[bytes] = []
    orientation = None
    for code, segment, remainder in _segments(content):
        if code == _START_OF_SCAN:
            scans = sum(1 for _ in itertools.islice(_SCAN.finditer(remainder), _MAX_SCANS + 1))
            if scans > _MAX_SCANS:
                raise BodyError(413, f"too costly a picture: more than {_MAX_SCANS} scans")
            exif = b"" if orientation is None else _exif(orientation)
            exif_segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif if exif else b""
            return b"".join([b"\xff\xd8", exif_segment, *kept, remainder]), scans
        if code == _EXIF_OR_XMP and segment[4:].startswith(_EXIF) and orientation is None:
            orientation = _orientation(segment[4 + len(_EXIF) :])
        elif code in _NEEDED_SEGMENTS or segment[4:].startswith(_XMP):
            kept.append(segment)
    raise BodyError(422, "truncated picture: the file ends before its pixels")


def _segments(content: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield code and bytes of each segment before the pixels; last, the code of a scan and the rest of the file."""
    position = 2
    for _ in range(_MAX_SEGMENTS):
        marker = _MARKER.search(content, position)  # fill bytes and junk are skipped, as in Pillow
        if marker is None:
            return
        start, code = marker.start(), content[marker.start() + 1]
        if code == _START_OF_SCAN:
            yield code, b"", content[start:]
            return
        position = start + 2
        if code in _WITHOUT_CONTENT:
            continue
        length = int.from_bytes(content[position : position + 2], "big")
        position += length
        if position > len(content):
            return
        if length < 2 or code < 0xC0:
            raise BodyError(422, f"corrupt picture: marker {code:#x} with {length} bytes at byte {start:,}")
        yield code, content[start:position], b""
    raise BodyError(413, f"too costly a picture: more than {_MAX_SEGMENTS:,} segments before its pixels")


def _strip_png(content: bytes) -> bytes:
    kept: list[bytes] = []
    pixels: list[bytes] = []
    orientation = None
    for kind, data, chunk in _chunks(content):
        if kind == b"IDAT":
            if not pixels:
                pixels_index = len(kept)
                kept.append(b"")  # replaced by the pixels of all chunks below
            pixels.append(data)
        elif kind in _NEEDED_CHUNKS or (kind == b"iTXt" and data.startswith(_XMP_OF_PNG)):
            kept.append(chunk)
        elif kind == b"eXIf":
            orientation = _orientation(data.removeprefix(_EXIF))
        elif kind == b"acTL" and not pixels and int.from_bytes(data[:4], "big") > 1:
            frames = int.from_bytes(data[:4], "big")
            raise BodyError(422, f"an animated picture: {frames} frames; a picture has one")
    if pixels:
        exif = b"" if orientation is None else _chunk(b"eXIf", _exif(orientation).removeprefix(_EXIF))
        kept[pixels_index] = exif + _chunk(b"IDAT", b"".join(pixels))
    return b"".join([_PNG, *kept])


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield kind, data and bytes of each chunk. A truncated last chunk stays truncated: Pillow reports it."""
    position = len(_PNG)
    for _ in range(_MAX_CHUNKS):
        if position + 8 > len(content):
            return
        length, kind = struct.unpack_from(">I4s", content, position)
        yield kind, content[position + 8 : position + 8 + length], content[position : position + 12 + length]
        if kind == b"IEND":
            return
        position += length + 12
    raise BodyError(413, f"too costly a picture: more than {_MAX_CHUNKS:,} chunks")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def _orientation(tiff: bytes) -> int | None:
    """The orientation in the first EXIF directory, normally 1..8; None if it has none."""
    byte_order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    try:
        directory = struct.unpack_from(f"{byte_order}L", tiff, 4)[0]
        for entry in range(struct.unpack_from(f"{byte_order}H", tiff, directory)[0]):
            tag, kind, count = struct.unpack_from(f"{byte_order}HHL", tiff, directory + 2 + 12 * entry)
            value_format = {1: "B", 3: "H", 4: "L"}.get(kind)
            if tag == _ORIENTATION and value_format and count == 1:
                return int(struct.unpack_from(f"{byte_order}{value_format}", tiff, directory + 10 + 12 * entry)[0])
    except struct.error:  # the directory is truncated, or there is no byte order
        pass
    return None


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation if 1 <= orientation <= 8 else 1
    return exif.tobytes()
