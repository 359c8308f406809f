"""Decoding of picture files into pixels of one size and color; a file that cannot be used has a reason."""

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from preprocessing.data_settings import Preprocessing

MIN_SIDE = 8
MAX_BYTES = 64 * 1024 * 1024
_MODES = {"gray": "L", "rgb": "RGB"}
_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I")


@dataclass(frozen=True)
class Decoded:
    """The pixels of a picture, one byte per channel and pixel, or the reason why it cannot be used, with details."""

    pixels: bytes | None = None
    reason: str | None = None
    detail: str | None = None


def decode(content: bytes, settings: Preprocessing, formats: tuple[str, ...] | None = None) -> Decoded:
    """Decode a file: rotate it by its EXIF orientation, resize its shorter side and crop its center.

    Gray, color, palette, CMYK and 16-bit pictures become 8-bit gray or color; transparent pixels become white.

    Args:
        content: a file in JPEG, PNG or any other format that Pillow reads.
        settings: preprocessing settings, of which ``size``, ``short_side`` and ``color`` are used.
        formats: Pillow's names of the accepted formats. None: all formats are accepted.
    """
    if not content:
        return Decoded(reason="empty file", detail="0 bytes")
    try:
        # Above 89 million pixels Pillow suspects a decompression bomb, which would fill the memory.
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=formats)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        return Decoded(reason="too large a picture", detail=str(error).split(",")[0])
    except UnidentifiedImageError:
        return Decoded(reason="not a picture", detail=f"{len(content):,} bytes in no known format")
    except Exception as error:  # The code of each format raises exceptions of its own.
        return Decoded(reason="corrupt picture", detail=_message(error))
    if min(image.size) < MIN_SIDE:
        return Decoded(
            reason="too small a picture",
            detail=f"{image.width} x {image.height} pixels; the minimum is {MIN_SIDE} per side",
        )
    try:
        # A JPEG can be decoded at a half, a quarter or an eighth of its size, which skips most of a camera's pixels.
        image.draft(_MODES[settings.color], (settings.short_side, settings.short_side))
        return Decoded(_fit(_flatten(image, settings.color), settings).tobytes())
    except Exception as error:
        truncated = "truncated" in str(error) or isinstance(error, EOFError)
        return Decoded(reason="truncated picture" if truncated else "corrupt picture", detail=_message(error))


def resize_pixels(pixels: bytes, shape: tuple[int, int, int], settings: Preprocessing) -> bytes:
    """Convert ``uint8`` pixels of ``shape``, ``(height, width, channels)``, to the size and color of the settings."""
    if shape == settings.shape and settings.short_side == settings.size:
        return pixels
    image = Image.fromarray(np.frombuffer(pixels, dtype=np.uint8).reshape(shape).squeeze())
    return _fit(image.convert(_MODES[settings.color]), settings).tobytes()


def _flatten(image: Image.Image, color: str) -> Image.Image:
    """The picture upright, without transparency, in 8-bit gray or color."""
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode in _DEEP_MODES:
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("pixels are floating-point numbers")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(_MODES[color])


def _fit(image: Image.Image, settings: Preprocessing) -> Image.Image:
    """Resize the shorter side and crop the center; pixels outside the crop are never resized."""
    side = min(image.size) * settings.size / settings.short_side
    left, top = (image.width - side) / 2, (image.height - side) / 2
    size = (int(settings.size), int(settings.size))
    box = (left, top, left + side, top + side)
    return image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)


def _message(error: Exception) -> str:
    return str(error).strip() or type(error).__name__
