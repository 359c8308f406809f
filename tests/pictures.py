"""Folders of photographs for tests: colored drawings of hands, one folder per class."""

from pathlib import Path

import numpy as np
from PIL import Image

from preprocessing.labels import LETTERS
from preprocessing.synthetic import draw_hands


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
