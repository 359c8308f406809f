"""Spelling correction: from recognized letters to the intended words."""

import functools
import itertools
import math
import string
from importlib.resources import files

import numpy as np
from symspellpy import SymSpell, Verbosity

# Weight of a word's log frequency against the cost of its edits.
_FREQUENCY_WEIGHT = 0.5
# Cost of a letter that was missed, or recognized where none was intended. All costs are in nats.
_GAP_COST = 5.0
# Cost of the second of two equal letters. It is low: signing it takes a pause, and holding a letter too long adds one.
_REPEATED_COST = 1.5
_MAX_EDITS = 2


@functools.cache
def _dictionary() -> SymSpell:
    dictionary = SymSpell(max_dictionary_edit_distance=_MAX_EDITS)
    dictionary.load_dictionary(str(files("symspellpy") / "frequency_dictionary_en_82_765.txt"), 0, 1)
    return dictionary


class Speller:
    """Finds words for recognized letters, using the network's confusion matrix.

    SymSpell's list of 82,765 English words with their frequencies gives the candidates within two edits. They are
    ranked by the sum of the costs of the edits and the rarity of the word. The cost of replacing a letter by another
    comes from the confusion matrix: the more often the network confuses the two, the lower it is.

    Args:
        class_names: of the network.
        confusion: ``int``, shape ``(classes, classes)``; rows are the true classes, columns the predicted ones.
    """

    def __init__(self, class_names: list[str], confusion: np.ndarray) -> None:
        self._dictionary = _dictionary()
        self._letters = {name for name in class_names if name in string.ascii_uppercase}
        # additive smoothing: a confusion that has not been observed is still possible
        rates = (confusion + 0.5) / (confusion + 0.5).sum(axis=1, keepdims=True)
        costs = np.log(rates.diagonal())[:, np.newaxis] - np.log(rates)
        self._costs = {
            (intended, recognized): float(costs[i, j])
            for (i, intended), (j, recognized) in itertools.product(enumerate(class_names), repeat=2)
            if intended in self._letters and recognized in self._letters
        }

    def candidates(self, letters: str, limit: int = 5) -> list[str]:
        """The likeliest words in capitals, the likeliest first; an empty list if no word is within two edits."""
        matches = self._dictionary.lookup(letters.lower(), Verbosity.ALL, max_edit_distance=_MAX_EDITS)
        ranked = sorted(
            (self.cost(match.term.upper(), letters) - _FREQUENCY_WEIGHT * math.log(match.count), match.term.upper())
            for match in matches
            if match.term.isalpha()
        )
        return [word for _, word in ranked[:limit]]

    def cost(self, intended: str, recognized: str) -> float:
        """Cost of recognizing one word as another: the weighted edit distance (Wagner and Fischer, 1974)."""
        row = list(itertools.accumulate((self._gap(recognized, j) for j in range(len(recognized))), initial=0.0))
        for i, intended_letter in enumerate(intended):
            above, row = row, [row[0] + self._missed(intended, i)]
            for j, recognized_letter in enumerate(recognized):
                row.append(
                    min(
                        above[j] + self._substituted(intended_letter, recognized_letter),
                        above[j + 1] + self._missed(intended, i),
                        row[j] + self._gap(recognized, j),
                    )
                )
        return row[-1]

    def _substituted(self, intended: str, recognized: str) -> float:
        return 0.0 if intended == recognized else self._costs.get((intended, recognized), 2 * _GAP_COST)

    def _missed(self, intended: str, index: int) -> float:
        # a letter that the network has no class for is easily missed
        return _REPEATED_COST if intended[index] not in self._letters else self._gap(intended, index)

    @staticmethod
    def _gap(word: str, index: int) -> float:
        return _REPEATED_COST if index and word[index] == word[index - 1] else _GAP_COST
