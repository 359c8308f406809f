"""A picture's file without what is not needed."""

import io

import numpy as np
import pytest
from PIL import Image

from preprocessing.decoding import decode
from preprocessing.settings import Preprocessing
from serving.errors import BodyError
from serving.picture_files import promised_pixels, slim
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
def test_the_pixels_stay_as_they_are_and_upright(content: bytes) -> None:
    expected = decode(content, COLOR)
    assert expected.pixels is not None
    assert decode(slim(content)[0], COLOR) == expected


def test_of_a_phones_several_pictures_the_first_is_taken() -> None:
    phone = saved(NOISE, "MPO", save_all=True, append_images=[Image.new("RGB", (60, 40), "red")])
    with Image.open(io.BytesIO(phone)) as opened:
        assert (opened.format, opened.n_frames) == ("MPO", 2)
    with Image.open(io.BytesIO(slim(phone)[0])) as opened:
        assert opened.format == "JPEG"
    assert decode(slim(phone)[0], COLOR) == decode(phone, COLOR)


def test_pixels_in_many_chunks_are_read_and_an_animation_is_refused() -> None:
    whole = png()
    start = whole.index(b"IDAT") - 4
    length = int.from_bytes(whole[start : start + 4], "big")
    data = whole[start + 8 : start + 8 + length]
    parts = b"".join(chunk(b"IDAT", data[place : place + 1]) for place in range(length))
    assert slim(whole[:start] + parts + whole[start + 12 + length :]) == (whole, 1)
    assert slim(png(chunk(b"acTL", bytes([0, 0, 0, 1, 0, 0, 0, 0])))) == (whole, 1)
    with pytest.raises(BodyError, match="an animated picture: 2 frames"):
        slim(png(chunk(b"acTL", bytes([0, 0, 0, 2, 0, 0, 0, 0]))))


def test_the_scans_of_a_picture_are_counted() -> None:
    assert slim(saved(NOISE, "JPEG"))[1] == 1
    assert slim(saved(NOISE, "JPEG", progressive=True))[1] == 10


@pytest.mark.parametrize("damaged", [segment(0xFE, b"")[:3] + b"\1", b"\xff\x05\0\2"])
def test_a_damaged_head_is_a_corrupt_picture(damaged: bytes) -> None:
    whole = saved(NOISE, "JPEG")
    with pytest.raises(BodyError, match="corrupt picture: marker") as refused:
        slim(whole[:2] + damaged + whole[2:])
    assert refused.value.status == 422


def test_what_a_file_promises_to_be_is_read_from_its_head() -> None:
    pixels = NOISE.width * NOISE.height
    found = [promised_pixels(content) for content in (saved(NOISE, "PNG"), saved(NOISE, "JPEG"), b"", b"GIF89a")]
    assert found == [pixels, pixels, 0, 0]
    assert promised_pixels(saved(NOISE, "JPEG", progressive=True)) == 10 * pixels
