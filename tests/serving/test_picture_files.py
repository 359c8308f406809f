"""Picture files without metadata."""

import io

import numpy as np
import pytest
from PIL import Image

from preprocessing.data_settings import Preprocessing
from preprocessing.decoding import decode
from serving.errors import BodyError
from serving.picture_files import declared_pixels, strip_metadata
from tests.serving.hostile import chunk, png, saved, segment

COLOR = Preprocessing(size=32, color="rgb")
NOISE = Image.fromarray(np.random.default_rng(2).integers(0, 256, (60, 40, 3), dtype=np.uint8))


def exif(orientation: int, comment: str = "") -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x010E] = comment
    return tags.tobytes()


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
PALETTE = NOISE.quantize(16)


@pytest.mark.parametrize(
    "content",
    [
        saved(NOISE, "JPEG"),
        saved(NOISE, "JPEG", progressive=True, comment=b"a comment", icc_profile=bytes(100_000)),
        saved(NOISE.convert("CMYK"), "JPEG"),
        saved(NOISE.convert("L"), "JPEG", restart_marker_blocks=1),
        *[saved(NOISE, "JPEG", exif=exif(orientation, "a hand" * 1000)) for orientation in range(1, 10)],
        saved(NOISE, "JPEG", xmp=XMP),
        saved(NOISE, "JPEG", xmp=XMP, exif=exif(3)),
        saved(NOISE, "JPEG") + bytes(1000),
        saved(NOISE, "PNG"),
        saved(PALETTE, "PNG", transparency=3),
        saved(NOISE.convert("RGBA"), "PNG", exif=exif(8), icc_profile=bytes(1000)),
        saved(NOISE.convert("1"), "PNG"),
        saved(NOISE, "PNG")[:-12],
    ],
)
def test_pixels_and_orientation_are_kept(content: bytes) -> None:
    expected = decode(content, COLOR)
    assert expected.pixels is not None
    assert decode(strip_metadata(content)[0], COLOR) == expected


def test_the_first_of_several_pictures_in_a_file_is_kept() -> None:
    phone_file = saved(NOISE, "MPO", save_all=True, append_images=[Image.new("RGB", (60, 40), "red")])
    with Image.open(io.BytesIO(phone_file)) as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    stripped, _ = strip_metadata(phone_file)
    with Image.open(io.BytesIO(stripped)) as image:
        assert image.format == "JPEG"
    assert decode(stripped, COLOR) == decode(phone_file, COLOR)


def test_pixels_in_many_chunks_are_read_and_an_animation_is_rejected() -> None:
    content = png()
    start = content.index(b"IDAT") - 4
    length = int.from_bytes(content[start : start + 4], "big")
    data = content[start + 8 : start + 8 + length]
    chunks = b"".join(chunk(b"IDAT", data[index : index + 1]) for index in range(length))
    assert strip_metadata(content[:start] + chunks + content[start + 12 + length :]) == (content, 1)
    assert strip_metadata(png(chunk(b"acTL", bytes([0, 0, 0, 1, 0, 0, 0, 0])))) == (content, 1)
    with pytest.raises(BodyError, match="an animated picture: 2 frames"):
        strip_metadata(png(chunk(b"acTL", bytes([0, 0, 0, 2, 0, 0, 0, 0]))))


def test_the_scans_of_a_picture_are_counted() -> None:
    assert strip_metadata(saved(NOISE, "JPEG"))[1] == 1
    assert strip_metadata(saved(NOISE, "JPEG", progressive=True))[1] == 10


@pytest.mark.parametrize("damaged", [segment(0xFE, b"")[:3] + b"\1", b"\xff\x05\0\2"])
def test_a_damaged_header_is_a_corrupt_picture(damaged: bytes) -> None:
    content = saved(NOISE, "JPEG")
    with pytest.raises(BodyError, match="corrupt picture: marker") as error:
        strip_metadata(content[:2] + damaged + content[2:])
    assert error.value.status == 422


def test_the_number_of_pixels_is_read_from_the_header() -> None:
    pixels = NOISE.width * NOISE.height
    counts = [declared_pixels(content) for content in (saved(NOISE, "PNG"), saved(NOISE, "JPEG"), b"", b"GIF89a")]
    assert counts == [pixels, pixels, 0, 0]
    assert declared_pixels(saved(NOISE, "JPEG", progressive=True)) == 10 * pixels
