"""What the names of folders and files tell of the pictures in them: split and class."""

import re
from collections.abc import Collection
from pathlib import PurePosixPath

from preprocessing.labels import class_name
from preprocessing.schema import TEST, TRAIN, VALIDATION

SPLITS = (TRAIN, VALIDATION, TEST)
_WORDS = {TRAIN: "train|training", VALIDATION: "val|valid|validation|dev", TEST: "test|tests|testing"}
_THINGS = "(set|sets|data|dataset|images|imgs|pictures|photos|folder|dir)?"
# one word of TrainingSet, ASLTrain, test_set or TRAIN2
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# Where a class's name ends in a file's: at a separator, or at a number that one follows. In a1b2c3.jpg it does not.
_END = re.compile(r"[\W_]+|\d+(?=[\W_]|$)")
_PICTURES = re.compile(r"\.(jpe?g|jpe|jfif|mpo|png|bmp|gif|webp|tiff?|p[bgnp]m|jp2|heic|avif)", re.IGNORECASE)


def split_of(name: str) -> str | None:
    """The split that a folder's name tells by one of its words: ``training_set``, ``ASL-Train``, ``test images``.

    Returns:
        None where no word tells one, or several words several, as in ``train_test_split``.
    """
    words = [word.lower() for word in _WORD.findall(name)]
    told = {split for split in SPLITS for word in words if re.fullmatch(f"({_WORDS[split]}){_THINGS}", word)}
    return told.pop() if len(told) == 1 else None


def file_label(name: str, classes: Collection[str] = ()) -> str | None:
    """The class that a file's name begins with: ``A_test.jpg``, ``A (3).jpg`` and ``A12.png`` are of A.

    A class ends with the name, at what is neither letter nor digit, or at a number; the longest such beginning that is
    one counts.

    Args:
        name: of the file.
        classes: names of classes beyond those that are known.
    """
    stem = PurePosixPath(name).stem
    ends = [len(stem), *reversed([end.start() for end in _END.finditer(stem)])]
    labels = (class_name(stem[:end], classes) for end in ends)
    return next((label for label in labels if label is not None), None)


def is_picture(name: str) -> bool:
    """Whether a file is called like a picture: not like a hidden one, or notes or a table that lie beside them."""
    return not name.startswith(".") and _PICTURES.fullmatch(PurePosixPath(name).suffix) is not None
