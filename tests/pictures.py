"""Photographs for tests: colored drawings of hands, alone or in folders, one per class."""

from pathlib import Path

import numpy as np
from PIL import Image

from preprocessing.labels import LETTERS
from preprocessing.synthetic import draw_hands

# The color of the drawn hands, as fractions of their gray.
_SKIN = np.array([1.0, 0.8, 0.65])


def photograph(
    *hands: tuple[str, int, tuple[int, int]], size: tuple[int, int] = (640, 480), seed: int = 10
) -> Image.Image:
    """Draw hands in front of a wall, large enough for the hand detector.

    Args:
        hands: letter, side in pixels and position ``(left, top)`` of each hand's square.
        size: width and height of the photograph.
        seed: of the hands' variation; the same seed draws the same hands. In those of 10 the detector finds most hands.
    """
    image = Image.new("RGB", size, (150, 160, 150))
    for letter, side, position in hands:
        [drawing] = draw_hands(np.array([LETTERS.index(letter)]), np.random.default_rng(seed), side)
        image.paste(Image.fromarray((drawing[..., None] * _SKIN).astype(np.uint8)), position)
    return image


def write_pictures(
    folder: Path, letters: str, count: int, seed: int = 0, name: str = "{label}/{label}{number}.png", side: int = 48
) -> None:
    """Write ``count`` pictures of each letter of ``letters``, in files named after the pattern ``name``."""
    rng = np.random.default_rng(seed)
    for label in letters:
        drawings = draw_hands(np.full(count, LETTERS.index(label)), rng)
        tint = rng.uniform(0.5, 1.0, (count, 1, 1, 3))
        for number, pixels in enumerate((drawings[..., None] * tint).astype(np.uint8)):
            path = folder / name.format(label=label, number=number)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).resize((side, side)).save(path)
