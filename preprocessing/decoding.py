"""Files of pictures to pixels of one size and colour, each that cannot be used with its reason."""

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from preprocessing.settings import Preprocessing

MIN_SIDE = 8
MAX_BYTES = 64 * 1024 * 1024
_MODES = {"grey": "L", "rgb": "RGB"}
_DEEP = ("I;16", "I;16B", "I;16L", "I")


@dataclass(frozen=True)
class Decoded:
    """A picture's bytes, a byte a channel a pixel, or the kind of fault and what exactly was found."""

    pixels: bytes | None = None
    reason: str | None = None
    detail: str | None = None


def decode(content: bytes, settings: Preprocessing, formats: tuple[str, ...] | None = None) -> Decoded:
    """Decode a file: upright by its EXIF orientation, its shorter side resized, its centre cut out.

    Grey, colour, palette, CMYK and 16-bit pictures become 8-bit grey or colour; what is transparent becomes white.

    Args:
        content: JPEG, PNG or what else Pillow reads.
        settings: ``size``, ``short_side`` and ``color`` count.
        formats: of Pillow's that are read; none given: all of them.
    """
    if not content:
        return Decoded(reason="empty file", detail="0 bytes")
    try:
        # beyond 89 million pixels Pillow suspects a file that unpacks into all of the memory
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=formats)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        return Decoded(reason="too large a picture", detail=str(error).split(",")[0])
    except UnidentifiedImageError:
        return Decoded(reason="not a picture", detail=f"{len(content):,} bytes that no format begins with")
    except Exception as error:  # whatever a format's own code stumbles over
        return Decoded(reason="corrupt picture", detail=_said(error))
    if min(image.size) < MIN_SIDE:
        return Decoded(
            reason="too small a picture",
            detail=f"{image.width} x {image.height} pixels; {MIN_SIDE} a side are the least",
        )
    try:
        # a JPEG can be decoded at a half, a quarter or an eighth of its size: most of a camera's pixels go unread
        image.draft(_MODES[settings.color], (settings.short_side, settings.short_side))
        return Decoded(_fit(_flat(image, settings.color), settings).tobytes())
    except Exception as error:
        truncated = "truncated" in str(error) or isinstance(error, EOFError)
        return Decoded(reason="truncated picture" if truncated else "corrupt picture", detail=_said(error))


def resize_pixels(pixels: bytes, shape: tuple[int, int, int], settings: Preprocessing) -> bytes:
    """Bring ``uint8`` pixels of ``shape``, ``(height, width, channels)``, to the size and colour of the settings."""
    if shape == settings.shape and settings.short_side == settings.size:
        return pixels
    image = Image.fromarray(np.frombuffer(pixels, dtype=np.uint8).reshape(shape).squeeze())
    return _fit(image.convert(_MODES[settings.color]), settings).tobytes()


def _flat(image: Image.Image, color: str) -> Image.Image:
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode in _DEEP:
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("pixels are floating-point numbers")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(_MODES[color])


def _fit(image: Image.Image, settings: Preprocessing) -> Image.Image:
    """The centre of a picture whose shorter side is resized; of what lies beyond nothing is made larger first."""
    side = min(image.size) * settings.size / settings.short_side
    left, top = (image.width - side) / 2, (image.height - side) / 2
    size = (int(settings.size), int(settings.size))
    box = (left, top, left + side, top + side)
    return image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)


def _said(error: Exception) -> str:
    return str(error).strip() or type(error).__name__
