"""Words from letters that a network may have confused."""

import numpy as np
import pytest

from preprocessing.labels import STILL_LETTERS
from serving.spelling import Speller

CLASS_NAMES = list(STILL_LETTERS)


def confusion(**pairs: int) -> np.ndarray:
    matrix = np.diag(np.full(len(CLASS_NAMES), 100))
    for (intended, recognized), count in pairs.items():
        matrix[CLASS_NAMES.index(intended), CLASS_NAMES.index(recognized)] += count
    return matrix


@pytest.fixture(scope="module")
def speller() -> Speller:
    return Speller(CLASS_NAMES, confusion(UR=30, RU=30, KV=20, MN=25))


@pytest.mark.parametrize(
    ("recognized", "intended"),
    [
        ("HELLO", "HELLO"),
        ("HOUSE", "HOUSE"),
        ("HORSE", "HORSE"),
        ("WOULD", "WOULD"),
        ("NUNBER", "NUMBER"),
        ("HELO", "HELLO"),
        ("SHOULLD", "SHOULD"),
        ("AZZ", "JAZZ"),
    ],
)
def test_the_intended_word_comes_first(speller: Speller, recognized: str, intended: str) -> None:
    assert speller.candidates(recognized)[0] == intended


def test_the_confusion_matrix_decides_between_words() -> None:
    assert Speller(CLASS_NAMES, confusion(UR=40)).candidates("BRT")[0] == "BUT"
    assert Speller(CLASS_NAMES, confusion(AR=40)).candidates("BRT")[0] == "BAT"


def test_letters_far_from_any_word_have_no_candidates(speller: Speller) -> None:
    assert speller.candidates("XQXQXQXQ") == []
