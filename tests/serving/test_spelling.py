"""Words from letters that a network may have taken for others."""

import numpy as np
import pytest

from preprocessing.labels import STILL_LETTERS
from serving.spelling import Speller

CLASSES = list(STILL_LETTERS)


def confusion(**pairs: int) -> np.ndarray:
    found = np.diag(np.full(len(CLASSES), 100))
    for (true, seen), count in pairs.items():
        found[CLASSES.index(true), CLASSES.index(seen)] += count
    return found


@pytest.fixture(scope="module")
def speller() -> Speller:
    return Speller(CLASSES, confusion(UR=30, RU=30, KV=20, MN=25))


@pytest.mark.parametrize(
    ("seen", "meant"),
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
def test_the_word_that_was_meant_comes_first(speller: Speller, seen: str, meant: str) -> None:
    assert speller.candidates(seen)[0] == meant


def test_what_this_network_confuses_decides_between_words() -> None:
    assert Speller(CLASSES, confusion(UR=40)).candidates("BRT")[0] == "BUT"
    assert Speller(CLASSES, confusion(AR=40)).candidates("BRT")[0] == "BAT"


def test_what_is_near_no_word_has_none(speller: Speller) -> None:
    assert speller.candidates("XQXQXQXQ") == []
