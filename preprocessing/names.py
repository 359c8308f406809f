"""The split and the class of pictures, inferred from the names of their folders and files."""

import re
from collections.abc import Collection
from pathlib import PurePosixPath

from preprocessing.labels import class_name
from preprocessing.schema import TEST, TRAIN, VALIDATION

SPLITS = (TRAIN, VALIDATION, TEST)
_WORDS = {TRAIN: "train|training", VALIDATION: "val|valid|validation|dev", TEST: "test|tests|testing"}
_SUFFIXES = "(set|sets|data|dataset|images|imgs|pictures|photos|folder|dir)?"
# One word of TrainingSet, ASLTrain, test_set or TRAIN2.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# A class name within a file name ends at a separator, or at a number that a separator follows, unlike in a1b2c3.jpg.
_END = re.compile(r"[\W_]+|\d+(?=[\W_]|$)")
_PICTURE_SUFFIX = re.compile(r"\.(jpe?g|jpe|jfif|mpo|png|bmp|gif|webp|tiff?|p[bgnp]m|jp2|heic|avif)", re.IGNORECASE)


def split_of(name: str) -> str | None:
    """The split that a word of a folder's name denotes: ``training_set``, ``ASL-Train``, ``test images``.

    Returns:
        The split; None if no word denotes one, or if words denote different ones, as in ``train_test_split``.
    """
    words = [word.lower() for word in _WORD.findall(name)]
    splits = {split for split in SPLITS for word in words if re.fullmatch(f"({_WORDS[split]}){_SUFFIXES}", word)}
    return splits.pop() if len(splits) == 1 else None


def file_label(name: str, class_names: Collection[str] = ()) -> str | None:
    """The class that a file's name begins with: ``A_test.jpg``, ``A (3).jpg`` and ``A12.png`` belong to A.

    A class name ends with the file name, at a character that is neither a letter nor a digit, or at a number. The
    longest such prefix that is a class is used.

    Args:
        name: name of the file.
        class_names: names of classes beyond the built-in ones.
    """
    stem = PurePosixPath(name).stem
    ends = [len(stem), *reversed([end.start() for end in _END.finditer(stem)])]
    labels = (class_name(stem[:end], class_names) for end in ends)
    return next((label for label in labels if label is not None), None)


def is_picture(name: str) -> bool:
    """Whether a file has the suffix of a picture and is not hidden, unlike notes or tables in the same folder."""
    return not name.startswith(".") and _PICTURE_SUFFIX.fullmatch(PurePosixPath(name).suffix) is not None
