"""Decoding of picture files into pixels of one size and color; a file that cannot be used has a reason."""

import io
import math
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from preprocessing.data_settings import Preprocessing
from preprocessing.hand_detection import Hand, hand_detector

MIN_SIDE = 8
# Smaller pictures are not searched for a hand: they are crops already, like Sign-MNIST's of 28 pixels.
MIN_SEARCHED_SIDE = 64
# The shorter side of a photograph when it is searched, at least: a hand may fill a small part of it.
SEARCHED_SIDE = 512
# The side of the square around a hand, as a multiple of the longer side of its landmarks' box. The landmarks lie within
# the hand, and the fingers' direction is easier to see with some of the wrist.
HAND_SCALE = 1.6
MAX_BYTES = 64 * 1024 * 1024
_MODES = {"gray": "L", "rgb": "RGB"}
_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I")


@dataclass(frozen=True)
class Decoded:
    """The pixels of a picture, one byte per channel and pixel, or the reason why it cannot be used, with details.

    Args:
        pixels: the pixels of the crop. None: the picture cannot be used.
        reason: why it cannot be used.
        detail: the details of the reason.
        searched: whether the picture was searched for a hand.
        hand: the hand in the picture as it was before the crop. None: none was found, or it was not searched.
    """

    pixels: bytes | None = None
    reason: str | None = None
    detail: str | None = None
    searched: bool = False
    hand: Hand | None = None

    @property
    def hand_row(self) -> tuple[float | None, float | None, list[float] | None, list[float] | None]:
        """The values of :data:`preprocessing.schema.HAND_COLUMNS`."""
        if self.hand is None:
            return 0.0 if self.searched else None, None, None, None
        return self.hand.confidence, self.hand.handedness, list(self.hand.box), self.hand.landmarks.ravel().tolist()


def decode(content: bytes, settings: Preprocessing, formats: tuple[str, ...] | None = None) -> Decoded:
    """Decode a file: rotate it by its EXIF orientation, and crop and resize it.

    Gray, color, palette, CMYK and 16-bit pictures become 8-bit gray or color; transparent pixels become white.

    Args:
        content: a file in JPEG, PNG or any other format that Pillow reads.
        settings: preprocessing settings, of which all but ``normalization`` and ``allow_duplicates`` are
            used.
        formats: Pillow's names of the accepted formats. None: all formats are accepted.
    """
    if not content:
        return Decoded(reason="empty file", detail="0 bytes")
    try:
        # Above 89 million pixels Pillow suspects a decompression bomb, which would fill the memory.
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(content), formats=formats)
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
    searched = _is_searched(image, settings)
    color, side = ("rgb", max(SEARCHED_SIDE, 2 * settings.size)) if searched else (settings.color, settings.short_side)
    try:
        # A JPEG can be decoded at a half, a quarter or an eighth of its size, which skips most of a camera's pixels.
        image.draft(_MODES[color], (side, side))
        image = _flatten(image, color)
    except Exception as error:
        truncated = "truncated" in str(error) or isinstance(error, EOFError)
        return Decoded(reason="truncated picture" if truncated else "corrupt picture", detail=_message(error))
    return _crop(image, settings)


def decode_array(pixels: bytes, shape: tuple[int, int, int], settings: Preprocessing) -> Decoded:
    """Crop and resize ``uint8`` pixels of ``shape``, ``(height, width, channels)``, as :func:`decode` does with a file.

    Pixels that have the shape of the settings' pictures are taken as they are.
    """
    if shape == settings.shape and settings.short_side == settings.size:
        return Decoded(pixels)
    image = _to_image(pixels, shape)
    return _crop(image.convert(_MODES["rgb" if _is_searched(image, settings) else settings.color]), settings)


def resize_pixels(pixels: bytes, shape: tuple[int, int, int], settings: Preprocessing) -> bytes:
    """The same for a picture that is too small to be searched for a hand."""
    if shape == settings.shape and settings.short_side == settings.size:
        return pixels
    return _crop_center(_to_image(pixels, shape).convert(_MODES[settings.color]), settings).tobytes()


def _to_image(pixels: bytes, shape: tuple[int, int, int]) -> Image.Image:
    return Image.fromarray(np.frombuffer(pixels, dtype=np.uint8).reshape(shape).squeeze())


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


def _is_searched(image: Image.Image, settings: Preprocessing) -> bool:
    return settings.crop == "hand" and min(image.size) >= MIN_SEARCHED_SIDE


def _crop(image: Image.Image, settings: Preprocessing) -> Decoded:
    """Crop and resize a picture, which is in RGB if it is searched for a hand, and else in the settings' color."""
    if not _is_searched(image, settings):
        return Decoded(_crop_center(image, settings).tobytes())
    hand = hand_detector().detect(image)
    cropped = _crop_center(image, settings) if hand is None else _crop_hand(image, hand, settings)
    if hand is not None and hand.handedness < 0.5 and settings.mirror_left_hands:
        cropped = ImageOps.mirror(cropped)
    return Decoded(cropped.convert(_MODES[settings.color]).tobytes(), searched=True, hand=hand)


def _crop_center(image: Image.Image, settings: Preprocessing) -> Image.Image:
    """Resize the shorter side and crop the center; pixels outside the crop are never resized."""
    side = min(image.size) * settings.size / settings.short_side
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return _resize_box(image, (left, top, left + side, top + side), settings)


def _crop_hand(image: Image.Image, hand: Hand, settings: Preprocessing) -> Image.Image:
    """Crop a square around a hand and resize it; outside the picture, the square repeats the pixels of the edge."""
    left, top, right, bottom = hand.box
    half = max(MIN_SIDE, hand.extent(image.size) * HAND_SCALE) / 2
    x = min(max((left + right) / 2, 0), 1) * image.width
    y = min(max((top + bottom) / 2, 0), 1) * image.height
    left, top, right, bottom = (math.floor(x - half), math.floor(y - half), math.ceil(x + half), math.ceil(y + half))
    # only the square is padded: a photograph may have many times its pixels
    inside = image.crop((max(0, left), max(0, top), min(image.width, right), min(image.height, bottom)))
    padding = ((max(0, -top), max(0, bottom - image.height)), (max(0, -left), max(0, right - image.width)), (0, 0))
    square = Image.fromarray(np.pad(np.asarray(inside), padding, mode="edge"))
    x, y = x - left, y - top
    return _resize_box(square, (x - half, y - half, x + half, y + half), settings)


def _resize_box(image: Image.Image, box: tuple[float, float, float, float], settings: Preprocessing) -> Image.Image:
    size = (int(settings.size), int(settings.size))
    return image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)


def _message(error: Exception) -> str:
    return str(error).strip() or type(error).__name__
