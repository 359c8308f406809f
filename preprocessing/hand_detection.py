"""Finds the hand in a picture with MediaPipe's two networks: first palms, then the 21 landmarks of a hand.

Architecture, weights and constants are those of MediaPipe Hands (Zhang et al., 2020, https://arxiv.org/abs/2006.10214)
and its graphs ``palm_detection_cpu`` and ``palm_detection_detection_to_roi``. The package ``mediapipe`` (Apache 2.0)
provides the networks as TensorFlow Lite files, which LiteRT runs on one core.
"""

import functools
import importlib.util
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from preprocessing.native_output import native_stderr_discarded

NUM_LANDMARKS = 21
_PALM_FILE = "modules/palm_detection/palm_detection_full.tflite"
LANDMARK_FILE = "modules/hand_landmark/hand_landmark_full.tflite"
_PALM_SIDE, _LANDMARK_SIDE = 192, 224
_MIN_PALM_SCORE, _MIN_CONFIDENCE = 0.5, 0.5
# Palms that overlap by more than this are one palm.
_MAX_OVERLAP = 0.3
# More palms than this are not examined; the most probable ones come first.
_MAX_PALMS = 2
# The square around a hand is this many times as large as the box of its palm, and shifted toward the fingers by this
# many heights of the box.
_HAND_SCALE, _HAND_SHIFT = 2.6, 0.5
# The palm detector has learned hands that are surrounded by other things. A picture in which it finds none is searched
# again within a black margin of this fraction of its size.
_MARGIN = 0.5
# The points of a palm that lie on its axis: the wrist, and where the middle finger begins.
_WRIST, _MIDDLE_FINGER = 0, 2


@dataclass(frozen=True)
class Hand:
    """A hand in a picture.

    Args:
        landmarks: ``float32`` of shape ``(21, 3)``: x and y as fractions of the picture's width and height, from the
            top left, and z, the depth relative to the wrist as a fraction of the width. The order is that of MediaPipe:
            the wrist, then four joints of each finger, from the thumb to the little finger and from palm to fingertip.
        confidence: probability that the landmarks are those of a hand, 0..1.
        handedness: probability that it is a right hand, 0..1, if the picture is not mirrored.
    """

    landmarks: np.ndarray
    confidence: float
    handedness: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The box ``(left, top, right, bottom)`` of the landmarks, as fractions of the picture's width and height."""
        low, high = self.landmarks[:, :2].min(axis=0), self.landmarks[:, :2].max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def extent(self, size: tuple[int, int]) -> float:
        """The longer side of the box in pixels, in a picture of this width and height."""
        left, top, right, bottom = self.box
        return max((right - left) * size[0], (bottom - top) * size[1])


@functools.cache
def hand_detector() -> "HandDetector":
    """The detector of this process."""
    return HandDetector()


class HandDetector:
    """Finds the largest hand in a picture. Threads may share it; they take turns.

    Raises:
        FileNotFoundError: the package ``mediapipe`` is not installed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        with native_stderr_discarded():
            self._palm_network = _Network(mediapipe_file(_PALM_FILE))
            self._landmark_network = _Network(mediapipe_file(LANDMARK_FILE))

    def detect(self, image: Image.Image) -> Hand | None:
        """Find the largest hand in a picture in mode RGB; None if there is no hand."""
        with self._lock:
            for margin in (0.0, _MARGIN):
                hands = [self._find_landmarks(image, palm) for palm in self._find_palms(image, margin)]
                found = [hand for hand in hands if hand is not None]
                if found:
                    return max(found, key=lambda hand: hand.extent(image.size))
        return None

    def _find_palms(self, image: Image.Image, margin: float) -> np.ndarray:
        """Rows of box center, box size and seven points, ``(n, 18)``, in pixels; the most probable palm comes first."""
        side = max(image.size) * (1 + 2 * margin)
        scale = _PALM_SIDE / side
        small = image.resize(
            (max(1, round(image.width * scale)), max(1, round(image.height * scale))),
            Image.Resampling.BILINEAR,
            reducing_gap=2.0,
        )
        square = Image.new("RGB", (_PALM_SIDE, _PALM_SIDE))
        offset = (_PALM_SIDE - small.width) // 2, (_PALM_SIDE - small.height) // 2
        square.paste(small, offset)
        boxes, scores = self._palm_network(square)
        probabilities = 1 / (1 + np.exp(-np.clip(scores.reshape(-1), -100, 100)))
        selected = np.flatnonzero(probabilities >= _MIN_PALM_SCORE)
        selected = selected[np.argsort(-probabilities[selected], kind="stable")]
        palms = boxes.reshape(-1, 18)[selected]
        palms[:, :2] += _ANCHORS[selected]
        palms[:, 4:] += np.tile(_ANCHORS[selected], 7)
        palms = _merge_overlapping(palms, probabilities[selected])[:_MAX_PALMS]
        points = palms.reshape(-1, 9, 2)
        points[:, [0, *range(2, 9)]] -= offset
        return points / (small.width / image.width, small.height / image.height)

    def _find_landmarks(self, image: Image.Image, palm: np.ndarray) -> Hand | None:
        """The hand of a palm, of shape ``(9, 2)``: box center, box size and seven points, in pixels."""
        center, size, points = palm[0], palm[1], palm[2:]
        axis = points[_MIDDLE_FINGER] - points[_WRIST]
        up = axis / max(float(np.hypot(*axis)), 1e-6)
        # the columns are the directions in the picture of right and down in the upright hand
        rotation = np.array([[-up[1], -up[0]], [up[0], -up[1]]])
        scale = _HAND_SCALE * size.max() / _LANDMARK_SIDE
        center = center + up * _HAND_SHIFT * size[1]
        origin = center - rotation @ np.full(2, scale * _LANDMARK_SIDE / 2)
        (a, b), (d, e) = scale * rotation
        upright = image.transform(
            (_LANDMARK_SIDE, _LANDMARK_SIDE),
            Image.Transform.AFFINE,
            (a, b, origin[0], d, e, origin[1]),
            Image.Resampling.BILINEAR,
        )
        points_in_hand, confidence, handedness, _ = self._landmark_network(upright)
        if confidence.item() < _MIN_CONFIDENCE:
            return None
        landmarks = points_in_hand.reshape(NUM_LANDMARKS, 3) * scale
        landmarks[:, :2] = landmarks[:, :2] @ rotation.T + origin
        landmarks /= (image.width, image.height, image.width)
        return Hand(landmarks.astype(np.float32), confidence.item(), handedness.item())


class _Network:
    """A TensorFlow Lite file that maps one RGB picture to arrays, in the order in which the file lists them."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter  # takes 0.1 s, and many jobs search no picture

        self._interpreter = Interpreter(str(path), num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [output["index"] for output in self._interpreter.get_output_details()]

    def __call__(self, image: Image.Image) -> list[np.ndarray]:
        self._interpreter.set_tensor(self._input, np.asarray(image, dtype=np.float32)[None] / 255)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]


def mediapipe_file(name: str) -> Path:
    """The path of a file in the package ``mediapipe``, which is not imported.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    package = importlib.util.find_spec("mediapipe")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError("the package mediapipe, which contains the hand networks, is not installed")
    return Path(package.submodule_search_locations[0]) / name


def _anchor_centers() -> np.ndarray:
    """The pixels that the palm network's boxes are relative to, ``(2016, 2)``: 2 per cell of 24 x 24, 6 of 12 x 12."""
    parts = []
    for cells, count in ((24, 2), (12, 6)):
        row, column = np.mgrid[:cells, :cells].reshape(2, -1)
        centers = (np.stack([column, row], axis=1) + 0.5) * _PALM_SIDE / cells
        parts.append(np.repeat(centers, count, axis=0))
    return np.concatenate(parts).astype(np.float32)


_ANCHORS = _anchor_centers()


def _merge_overlapping(palms: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Replace palms that overlap by their mean, weighted by probability (weighted non-maximum suppression)."""
    merged, remaining = [], np.arange(len(palms))
    while len(remaining):
        overlaps = _overlap(palms[remaining[0]], palms[remaining]) > _MAX_OVERLAP
        overlaps[0] = True
        group = remaining[overlaps]
        merged.append(np.average(palms[group], axis=0, weights=probabilities[group]))
        remaining = remaining[~overlaps]
    return np.array(merged, dtype=np.float64).reshape(-1, 18)


def _overlap(palm: np.ndarray, palms: np.ndarray) -> np.ndarray:
    """Intersection over union of one palm's box and those of others."""
    low = np.maximum(palm[:2] - palm[2:4] / 2, palms[:, :2] - palms[:, 2:4] / 2)
    high = np.minimum(palm[:2] + palm[2:4] / 2, palms[:, :2] + palms[:, 2:4] / 2)
    intersection = np.prod(np.maximum(high - low, 0), axis=1)
    return intersection / (np.prod(palm[2:4]) + np.prod(palms[:, 2:4], axis=1) - intersection + 1e-9)
