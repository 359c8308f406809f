"""Pictures of a person's own hand, which the server recognizes better at once, without a training."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.onnx_network import Outputs
from preprocessing.data_settings import Preprocessing
from preprocessing.decoding import decode
from preprocessing.errors import InputError
from preprocessing.labels import class_name

# How much a class gains, as the logarithm of its probability, where a picture equals the mean of its examples, and how
# fast that falls with the cosine distance. They have not been tuned.
_GAIN, _SHARPNESS = 6.0, 6.0


@dataclass(frozen=True)
class Example:
    """A picture of a person's own hand: its letter, the name of its file, and its features, ``float32``."""

    letter: str
    name: str
    features: np.ndarray


@dataclass(frozen=True)
class Examples:
    """The means of the features of some classes' examples.

    A class gains probability where a picture's features resemble those of its examples: its nearest mean (Mensink et
    al., 2013) is added to the logits as in Tip-Adapter (Zhang et al., 2022). Pictures that resemble no example keep
    their probabilities, so that some letters can be taught and others not.

    Args:
        means: normalized mean of the features of each class, ``float32`` ``(classes, features)``; all zeros for a class
            without examples.
        counts: the number of examples of each class, ``int`` ``(classes,)``.
    """

    means: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, examples: Iterable["Example"], class_names: list[str]) -> "Examples":
        """The means of examples; those of other classes than the network's are left out."""
        known = [example for example in examples if example.letter in class_names]
        if not known:
            return cls(np.zeros((len(class_names), 1), dtype=np.float32), np.zeros(len(class_names), dtype=np.int64))
        features = _normalized(np.stack([example.features for example in known]))
        classes = np.array([class_names.index(example.letter) for example in known])
        sums = np.zeros((len(class_names), features.shape[1]), dtype=np.float32)
        np.add.at(sums, classes, features)
        return cls(_normalized(sums), np.bincount(classes, minlength=len(class_names)))

    def blend(self, outputs: Outputs) -> np.ndarray:
        """The probabilities of pictures, ``float32`` ``(n, classes)``, with regard to the examples."""
        if not self.counts.any():
            return outputs.probabilities
        similarity = _normalized(outputs.features) @ self.means.T
        gains = _GAIN * np.exp(_SHARPNESS * (similarity - 1)) * (self.counts > 0)
        weighted = outputs.probabilities * np.exp(gains)
        blended: np.ndarray = (weighted / weighted.sum(axis=1, keepdims=True)).astype(np.float32)
        return blended


def read_examples(
    folder: Path, class_names: list[str], settings: Preprocessing, features: Callable[[np.ndarray], np.ndarray]
) -> list[Example]:
    """Read the pictures of a folder with one subfolder per class.

    Args:
        folder: the folder.
        class_names: the classes of the network.
        settings: the preprocessing of the network's pictures.
        features: computes the features of pixels, ``uint8`` ``(n, pixels)``.

    Raises:
        InputError: the folder has a subfolder that is not a class of the network, a file that cannot be used, or a
            picture without a hand.
    """
    examples = []
    for subfolder in sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."):
        name = class_name(subfolder.name, class_names)
        if name not in class_names:
            raise InputError(f"{subfolder}: not a class of the network; it has {', '.join(class_names)}")
        if name != subfolder.name:
            raise InputError(f"{subfolder}: rename the folder to {name}, the name of the class")
        for file in sorted(path for path in subfolder.iterdir() if path.name[0] != "."):
            picture = decode(file.read_bytes(), settings)
            if picture.pixels is None:
                raise InputError(f"{file}: {picture.reason}: {picture.detail}")
            if picture.searched and picture.hand is None:
                raise InputError(f"{file}: no hand is found in this picture: delete it")
            [row] = features(np.frombuffer(picture.pixels, dtype=np.uint8)[np.newaxis])
            examples.append(Example(name, file.name, row))
    return examples


def _normalized(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    normalized: np.ndarray = rows / np.maximum(length, 1e-9)
    return normalized
