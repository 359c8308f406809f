"""Picture files of every kind become pixels; broken ones get a reason."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from preprocessing import decoding
from preprocessing.data_settings import Preprocessing
from preprocessing.decoding import decode, resize_pixels

GRAY, COLOR = Preprocessing(size=32), Preprocessing(size=32, color="rgb")


def gradient(width: int = 64, height: int = 64) -> Image.Image:
    """A picture whose red increases to the right and whose green increases downwards."""
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([columns * 255 // (width - 1), rows * 255 // (height - 1), np.full_like(rows, 90)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def saved(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def pixels(content: bytes, settings: Preprocessing) -> np.ndarray:
    decoded = decode(content, settings)
    assert decoded.pixels is not None, decoded
    return np.frombuffer(decoded.pixels, dtype=np.uint8).reshape(settings.shape).astype(int)


@pytest.mark.parametrize(
    ("file_format", "options", "mode"),
    [
        ("PNG", {}, "RGB"),
        ("PNG", {}, "RGBA"),
        ("PNG", {}, "P"),
        ("JPEG", {"quality": 95}, "RGB"),
        ("JPEG", {"quality": 95}, "CMYK"),
        ("WEBP", {"lossless": True}, "RGB"),
        ("TIFF", {}, "RGB"),
        ("BMP", {}, "RGB"),
    ],
)
def test_every_format_keeps_colors(file_format: str, options: dict[str, Any], mode: str) -> None:
    image = gradient().convert(mode) if mode != "P" else gradient().quantize(256)
    decoded = pixels(saved(image, file_format, **options), COLOR)
    expected = np.asarray(gradient().resize((32, 32), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(decoded - expected).mean() < 6


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16"])
def test_gray_pictures_of_any_depth_have_equal_values_in_gray_and_in_color(mode: str) -> None:
    levels = np.linspace(0, 255, 64)[None].repeat(64, axis=0)
    if mode == "I;16":
        content = saved(Image.fromarray((levels * 257).astype(np.uint16)))
    else:
        content = saved(Image.fromarray(levels.astype(np.uint8)).convert(mode))
    gray = pixels(content, GRAY)[..., 0]
    assert (pixels(content, COLOR) == gray[..., None]).all()
    assert abs(gray[:, :4].mean() - 14) < 8
    assert abs(gray[:, -4:].mean() - 241) < 8


def test_transparent_pixels_become_white() -> None:
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    assert (pixels(saved(image), COLOR) == 255).all()
    palette = Image.new("P", (40, 40), 3)
    palette.putpalette([0] * 12)
    assert (pixels(saved(palette, transparency=3), COLOR) == 255).all()


@pytest.mark.parametrize(("orientation", "corner"), [(1, "left"), (3, "right"), (6, "right"), (8, "left")])
def test_a_picture_is_rotated_by_its_exif_orientation(orientation: int, corner: str) -> None:
    image = Image.new("L", (64, 64), 0)
    image.paste(255, (0, 0, 32, 32))
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = pixels(saved(image, "JPEG", quality=95, exif=exif), GRAY)[..., 0]
    top, bottom = decoded[:16], decoded[16:]
    bright = top if orientation in (1, 6) else bottom
    half = bright[:, :16] if corner == "left" else bright[:, 16:]
    assert half.mean() > 240
    assert decoded.mean() < 80


def test_the_shorter_side_is_resized_and_the_center_is_cropped() -> None:
    wide = Image.new("L", (200, 100), 0)
    wide.paste(255, (50, 0, 150, 100))
    assert (pixels(saved(wide), GRAY) > 200).mean() > 0.95
    # Resized to twice the final size, so the crop has the center half of each side.
    square = gradient(128, 128).convert("L")
    cropped = pixels(saved(square), Preprocessing(size=32, resize=64))
    uncropped = pixels(saved(square), Preprocessing(size=64))
    np.testing.assert_allclose(cropped, uncropped[16:48, 16:48], atol=3)


def test_a_long_and_narrow_picture_costs_no_more_than_its_center() -> None:
    strip = saved(Image.new("L", (2_000_000, 8), 90))
    assert (pixels(strip, GRAY) == 90).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"not a picture at all", "not a picture"),
        (saved(gradient(), "JPEG")[:700], "truncated picture"),
        (saved(gradient())[:150], "truncated picture"),
        (saved(gradient())[:60] + bytes(400), "corrupt picture"),
        (saved(gradient(64, 4)), "too small a picture"),
        (saved(Image.new("L", (1, 1))), "too small a picture"),
        (saved(Image.fromarray(np.zeros((20, 20), np.float32)), "TIFF"), "corrupt picture"),
    ],
)
def test_a_file_that_cannot_be_used_gets_a_reason(content: bytes, reason: str) -> None:
    decoded = decode(content, COLOR)
    assert (decoded.pixels, decoded.reason) == (None, reason)
    assert decoded.detail


def test_a_decompression_bomb_is_not_unpacked() -> None:
    bomb = saved(Image.new("1", (20_000, 20_000)))
    assert len(bomb) < decoding.MAX_BYTES
    decoded = decode(bomb, GRAY)
    assert decoded.reason == "too large a picture"
    assert decoded.detail is not None
    assert "400000000" in decoded.detail


def test_sign_mnist_pixels_are_converted_to_size_and_color() -> None:
    small = (np.arange(784) % 251).astype(np.uint8)
    assert resize_pixels(small.tobytes(), (28, 28, 1), Preprocessing()) == small.tobytes()
    large = np.frombuffer(resize_pixels(small.tobytes(), (28, 28, 1), COLOR), np.uint8).reshape(32, 32, 3)
    assert (large[..., 0] == large[..., 2]).all()
    assert abs(large.mean() - small.mean()) < 3
