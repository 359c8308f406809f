"""Folders of photographs for tests: coloured drawings of hands, a class each."""

from pathlib import Path

import numpy as np
from PIL import Image

from preprocessing.labels import LETTERS
from preprocessing.synthetic import draw_hands


def write_pictures(
    folder: Path, classes: str, count: int, seed: int = 0, name: str = "{label}/{label}{number}.png", side: int = 48
) -> None:
    """``count`` pictures of each letter of ``classes``, in files called by ``name``."""
    rng = np.random.default_rng(seed)
    for label in classes:
        drawn = draw_hands(np.full(count, LETTERS.index(label)), rng)
        tint = rng.uniform(0.5, 1.0, (count, 1, 1, 3))
        for number, pixels in enumerate((drawn[..., None] * tint).astype(np.uint8)):
            path = folder / name.format(label=label, number=number)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).resize((side, side)).save(path)
