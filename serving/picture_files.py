"""JPEG and PNG files without what costs time and memory and is not needed for their pixels.

Pillow reads whatever stands in a file before the first pixel, in Python: a million comments of no bytes take it some
seconds, and a directory of EXIF tags that all point at the same bytes takes memory many times its size. In what cameras
and programs write, the list of parts is short: a file is copied part by part, within bounds, and Pillow gets the parts
that it needs for the pixels and for which way is up.
"""

import itertools
import re
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from serving.errors import BodyError

# A segment of a JPEG has up to 64 kB: the color profiles, previews and maps of cameras are some tens of them.
_MOST_SEGMENTS = 1_000
# A progressive JPEG refines every pixel with each scan. Encoders write 10, the most thorough ones some 20.
_MOST_SCANS = 100
# Programs write a PNG's pixels in chunks of 8 kB or more: 8 MB are a thousand of them.
_MOST_CHUNKS = 10_000

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_MARKER = re.compile(rb"\xff[^\xff]", re.DOTALL)
# The head of a scan, whose length follows from its components: other bytes are not taken for one by chance.
_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
_START_OF_SCAN, _EXIF_OR_XMP = 0xDA, 0xE1
_WITHOUT_CONTENT = {0x00, 0x01, *range(0xD0, 0xDA)}
# Frames and tables, and what says which colors the channels are (JFIF, Adobe); 0xE2 would be the list of the other
# pictures behind the first in a phone's file.
_NEEDED = {*range(0xC0, 0xD0), 0xDB, 0xDC, 0xDD, 0xE0, 0xEE}
_FRAMES, _PROGRESSIVE = {0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA, 0xCB}, 0xC2
_EXIF, _XMP = b"Exif\x00\x00", b"http://ns.adobe.com/xap/1.0/\x00"
_ORIENTATION = 0x0112
_XMP_OF_PNG = b"XML:com.adobe.xmp\x00"
_NEEDED_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IEND"}


def slim(content: bytes) -> tuple[bytes, int]:
    """A file with the parts that its pixels and its orientation need; what is neither JPEG nor PNG stays as it is.

    Of several pictures in a JPEG, as phones write them, the first is taken.

    Args:
        content: of the file.

    Returns:
        The file, and how often decoding passes over each of its pixels.

    Raises:
        BodyError: 413 for too many parts, 422 for a damaged list of them or an animation.
    """
    if content.startswith(_JPEG):
        return _slim_jpeg(content)
    return (_slim_png(content) if content.startswith(_PNG) else content), 1


def promised_pixels(content: bytes) -> int:
    """Those of a JPEG or PNG by its head, as often as they are passed over; 0 where it says nothing."""
    if content.startswith(_PNG):
        return int.from_bytes(content[16:20], "big") * int.from_bytes(content[20:24], "big")
    try:
        frames = (found for found in _segments(content) if found[0] in _FRAMES)
        code, frame, _ = next(frames, (0, b"", b""))
    except BodyError:
        return 0
    height, width = int.from_bytes(frame[5:7], "big"), int.from_bytes(frame[7:9], "big")
    return width * height * (10 if code == _PROGRESSIVE else 1)


def _slim_jpeg(content: bytes) -> tuple[bytes, int]:
    kept: list[bytes] = []
    orientation = None
    for code, segment, rest in _segments(content):
        if code == _START_OF_SCAN:
            scans = sum(1 for _ in itertools.islice(_SCAN.finditer(rest), _MOST_SCANS + 1))
            if scans > _MOST_SCANS:
                raise BodyError(413, f"too costly a picture: more than {_MOST_SCANS} scans")
            exif = b"" if orientation is None else _exif(orientation)
            head = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif if exif else b""
            return b"".join([b"\xff\xd8", head, *kept, rest]), scans
        if code == _EXIF_OR_XMP and segment[4:].startswith(_EXIF) and orientation is None:
            orientation = _orientation(segment[4 + len(_EXIF) :])
        elif code in _NEEDED or segment[4:].startswith(_XMP):
            kept.append(segment)
    raise BodyError(422, "truncated picture: the file ends before its pixels")


def _segments(content: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Code and bytes of each segment before the pixels; at last the code of a scan, with the rest of the file."""
    place = 2
    for _ in range(_MOST_SEGMENTS):
        marker = _MARKER.search(content, place)  # fill bytes and junk are passed over, as Pillow does
        if marker is None:
            return
        start, code = marker.start(), content[marker.start() + 1]
        if code == _START_OF_SCAN:
            yield code, b"", content[start:]
            return
        place = start + 2
        if code in _WITHOUT_CONTENT:
            continue
        length = int.from_bytes(content[place : place + 2], "big")
        place += length
        if place > len(content):
            return
        if length < 2 or code < 0xC0:
            raise BodyError(422, f"corrupt picture: marker {code:#x} with {length} bytes at byte {start:,}")
        yield code, content[start:place], b""
    raise BodyError(413, f"too costly a picture: more than {_MOST_SEGMENTS:,} segments before its pixels")


def _slim_png(content: bytes) -> bytes:
    kept: list[bytes] = []
    pixels: list[bytes] = []
    orientation = None
    for kind, data, chunk in _chunks(content):
        if kind == b"IDAT":
            if not pixels:
                place = len(kept)
                kept.append(b"")  # the pixels, once all of them are there
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
        kept[place] = exif + _chunk(b"IDAT", b"".join(pixels))
    return b"".join([_PNG, *kept])


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Kind, data and bytes of each chunk; what is missing of the last one, Pillow misses too."""
    place = len(_PNG)
    for _ in range(_MOST_CHUNKS):
        if place + 8 > len(content):
            return
        length, kind = struct.unpack_from(">I4s", content, place)
        yield kind, content[place + 8 : place + 8 + length], content[place : place + 12 + length]
        if kind == b"IEND":
            return
        place += length + 12
    raise BodyError(413, f"too costly a picture: more than {_MOST_CHUNKS:,} chunks")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def _orientation(tiff: bytes) -> int | None:
    """What the first directory of EXIF says, 1..8; none where it says nothing."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    try:
        place = struct.unpack_from(f"{order}L", tiff, 4)[0]
        for entry in range(struct.unpack_from(f"{order}H", tiff, place)[0]):
            tag, kind, count = struct.unpack_from(f"{order}HHL", tiff, place + 2 + 12 * entry)
            form = {1: "B", 3: "H", 4: "L"}.get(kind)
            if tag == _ORIENTATION and form and count == 1:
                return int(struct.unpack_from(f"{order}{form}", tiff, place + 10 + 12 * entry)[0])
    except struct.error:  # it ends before
        pass
    return None


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation if 1 <= orientation <= 8 else 1
    return exif.tobytes()
