"""The synthetic sample: hands drawn from a parametric model, in Sign-MNIST's CSV format.

A hand is a palm and five fingers of two segments each. A letter is defined by the directions of the segments and the
rotation of the hand; size, position, angle, light, noise, background and every joint vary between pictures. The sample
shows that a job runs and learns; it says nothing about real hands.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from preprocessing.labels import LETTERS, STILL_LETTERS
from preprocessing.parsing import HEADER, PIXELS, SIDE
from preprocessing.schema import TEST, TRAIN
from preprocessing.sign_mnist import FILES

SOURCE = "synthetic sample"
SEED = 20
ROWS = {TRAIN: 4800, TEST: 1200}
_BATCH = 400

Floats = np.ndarray
# Two directions in degrees clockwise from straight up, and the length as a fraction of the stretched finger's length.
Segments = tuple[float, float, float]


@dataclass(frozen=True)
class Pose:
    """Index, middle, ring and little finger, the thumb, and the clockwise rotation of the hand in degrees."""

    fingers: tuple[Segments, Segments, Segments, Segments]
    thumb: Segments
    turn: float = 0.0


_UP, _FOLD, _LOW = (0.0, 0.0, 1.0), (0.0, 180.0, 0.55), (0.0, 180.0, 0.30)
_CURVE, _HOOK, _OVER = (20.0, 80.0, 0.85), (0.0, 110.0, 0.8), (0.0, 180.0, 0.9)


def _lean(angle: float) -> Segments:
    return (angle, angle, 1.0)


POSES = {
    "A": Pose((_FOLD, _FOLD, _FOLD, _FOLD), (-15, 5, 1.0)),
    "B": Pose((_UP, _UP, _UP, _UP), (60, 80, 0.8)),
    "C": Pose((_CURVE, _CURVE, _CURVE, _CURVE), (40, 95, 1.2)),
    "D": Pose((_UP, (40, 140, 0.7), (40, 140, 0.7), (40, 140, 0.6)), (40, 40, 0.9)),
    "E": Pose((_LOW, _LOW, _LOW, _LOW), (85, 95, 0.9)),
    "F": Pose(((-40, -150, 0.8), _lean(-4), _lean(10), _lean(24)), (-25, 25, 0.9)),
    "G": Pose((_UP, _FOLD, _FOLD, _FOLD), (-25, 5, 1.0), turn=80),
    "H": Pose((_UP, _UP, _FOLD, _FOLD), (50, 70, 0.6), turn=80),
    "I": Pose((_FOLD, _FOLD, _FOLD, _UP), (60, 80, 0.8)),
    "K": Pose((_lean(-8), _lean(28), _FOLD, _FOLD), (15, 20, 1.1)),
    "L": Pose((_UP, _FOLD, _FOLD, _FOLD), (-80, -85, 1.1)),
    "M": Pose((_OVER, _OVER, _OVER, _FOLD), (70, 85, 1.2)),
    "N": Pose((_OVER, _OVER, _LOW, _LOW), (50, 70, 1.0)),
    "O": Pose(((30, 120, 0.8), (30, 120, 0.85), (30, 120, 0.8), (30, 120, 0.7)), (15, 60, 1.0)),
    "P": Pose((_lean(-8), _lean(28), _FOLD, _FOLD), (15, 20, 1.1), turn=140),
    "Q": Pose((_UP, _FOLD, _FOLD, _FOLD), (-25, 5, 1.0), turn=165),
    "R": Pose((_lean(11), _lean(-9), _FOLD, _FOLD), (60, 80, 0.7)),
    "S": Pose((_FOLD, _FOLD, _FOLD, _FOLD), (45, 95, 1.1)),
    "T": Pose((_FOLD, _FOLD, _FOLD, _FOLD), (25, 10, 1.1)),
    "U": Pose((_UP, _UP, _FOLD, _FOLD), (60, 80, 0.7)),
    "V": Pose((_lean(-16), _lean(16), _FOLD, _FOLD), (60, 80, 0.7)),
    "W": Pose((_lean(-20), _UP, _lean(20), _FOLD), (60, 80, 0.9)),
    "X": Pose((_HOOK, _FOLD, _FOLD, _FOLD), (60, 80, 0.7)),
    "Y": Pose((_FOLD, _FOLD, _FOLD, _lean(30)), (-65, -70, 1.1)),
}

# In hand coordinates: the palm is one unit wide, x points to the right and y up.
_KNUCKLES = np.array([[-0.36, 0.45], [-0.12, 0.50], [0.12, 0.48], [0.36, 0.40]])
_LENGTHS = np.array([0.85, 0.95, 0.88, 0.68])
_THUMB_BASE, _THUMB_LENGTH = np.array([-0.42, -0.20]), 0.62
_FINGER_RADIUS, _THUMB_RADIUS, _PALM_RADIUS = 0.115, 0.13, 0.30


def draw_hands(labels: np.ndarray, rng: np.random.Generator, side: int = SIDE) -> np.ndarray:
    """Draw a hand for each label.

    Args:
        labels: ``int``, shape ``(n,)``, the indices of the letters in A..Z; J and Z have no still pose.
        rng: the source of all random variation.
        side: the side of a picture in pixels.

    Returns:
        ``uint8``, shape ``(n, side, side)``.
    """
    poses = [POSES[LETTERS[label]] for label in labels]
    count = len(poses)
    x, y, pixel = _hand_coordinates(np.array([pose.turn for pose in poses]), rng, side)

    skin = rng.uniform(130, 225, (count, 1, 1))
    image = _background(count, rng, side)
    light = rng.uniform(-30, 30, (count, 1, 1)) * x + rng.uniform(-30, 30, (count, 1, 1)) * y

    def paint(image: Floats, distance: Floats, shade: float) -> Floats:
        """Draw a shape over the image, with a darker outline and an edge that is anti-aliased over one pixel."""
        cover = np.clip(0.5 - distance / pixel, 0, 1)
        outline = np.clip(1 + distance / 0.12, 0, 1)
        return image * (1 - cover) + cover * (skin * shade + light - 45 * outline)

    image = paint(image, _capsule(x, y, np.array([0.0, -0.25]), np.array([0.0, -1.5]), 0.28), 0.95)
    image = paint(image, _capsule(x, y, np.array([-0.14, 0.12]), np.array([0.14, 0.12]), _PALM_RADIUS + 0.1), 1.0)
    image = paint(image, _capsule(x, y, np.array([-0.08, -0.25]), np.array([0.12, -0.25]), _PALM_RADIUS), 1.0)
    digits = [
        (knuckle, [pose.fingers[finger] for pose in poses], length, _FINGER_RADIUS)
        for finger, (knuckle, length) in enumerate(zip(_KNUCKLES, _LENGTHS, strict=True))
    ]
    for base, segments, length, radius in [
        *digits[::-1],
        (_THUMB_BASE, [pose.thumb for pose in poses], _THUMB_LENGTH, _THUMB_RADIUS),
    ]:
        first, second, fraction = np.array(segments, dtype=float).T
        reach = (length * fraction * rng.uniform(0.92, 1.08, count) / 2)[:, None]
        joint = base + reach * _direction(first + rng.normal(0, 4, count))
        tip = joint + reach * _direction(second + rng.normal(0, 5, count))
        image = paint(image, _capsule(x, y, np.broadcast_to(base, joint.shape), joint, radius), 1.04)
        image = paint(image, _capsule(x, y, joint, tip, radius * 0.95), 1.08)

    image += rng.normal(0, 1, image.shape) * rng.uniform(2, 8, (count, 1, 1))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def write_sample(folder: Path, rows: dict[str, int] = ROWS, seed: int = SEED) -> None:
    """Write ``sign_mnist_train.csv`` and ``sign_mnist_test.csv``, with the 24 letters in equal numbers and shuffled.

    Args:
        folder: the output folder, created if it does not exist.
        rows: the number of rows for ``train`` and ``test``.
        seed: the random seed; the same seed writes the same files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    letters = np.array([LETTERS.index(letter) for letter in STILL_LETTERS])
    for split, name in FILES.items():
        labels = rng.permutation(np.resize(letters, rows[split]))
        pictures = [draw_hands(labels[i : i + _BATCH], rng) for i in range(0, len(labels), _BATCH)]
        values = np.column_stack([labels.astype(np.uint8), np.concatenate(pictures).reshape(-1, PIXELS)])
        table = pa.table([pa.array(column) for column in values.T.copy()], names=HEADER.split(","))
        with (folder / name).open("wb") as file:
            file.write(f"{HEADER}\n".encode())
            pa_csv.write_csv(table, file, pa_csv.WriteOptions(include_header=False))


def _hand_coordinates(turn: Floats, rng: np.random.Generator, side: int) -> tuple[Floats, Floats, Floats]:
    """The hand coordinates x and y of each pixel, shape ``(n, side, side)``, and the size of a pixel in them."""
    count, scale = len(turn), side / SIDE
    size = scale * rng.uniform(8.5, 11.0, (count, 1, 1))
    angle = np.deg2rad(turn + rng.normal(0, 7, count))[:, None, None]
    center = side / 2 + scale * rng.uniform(-1.8, 1.8, (2, count, 1, 1))
    rows, columns = np.mgrid[0:side, 0:side] + 0.5
    x = (columns - center[0]) / size
    y = (center[1] - rows) / size
    # the fingers of an upright hand are longer than its wrist, so its center lies above that of the palm
    lift = 0.35
    return np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y + lift, 1 / size


def _background(count: int, rng: np.random.Generator, side: int) -> Floats:
    """A wall with a brightness gradient in any direction."""
    rows, columns = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    level = rng.uniform(20, 200, (count, 1, 1))
    slope = rng.uniform(-40, 40, (2, count, 1, 1))
    return level + slope[0] * rows + slope[1] * columns


def _direction(degrees: Floats) -> Floats:
    radians = np.deg2rad(degrees)
    return np.stack([np.sin(radians), np.cos(radians)], axis=-1)


def _capsule(x: Floats, y: Floats, start: Floats, end: Floats, radius: float) -> Floats:
    """The signed distance of each pixel to a capsule, negative inside. Points have shape ``(2,)`` or ``(n, 2)``."""
    start, end = np.atleast_2d(start), np.atleast_2d(end)
    start_x, start_y = (start[:, i, None, None] for i in (0, 1))
    along_x, along_y = ((end - start)[:, i, None, None] for i in (0, 1))
    length = np.maximum(along_x**2 + along_y**2, 1e-9)
    t = np.clip(((x - start_x) * along_x + (y - start_y) * along_y) / length, 0, 1)
    return np.hypot(x - start_x - t * along_x, y - start_y - t * along_y) - radius
