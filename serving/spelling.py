"""Letters as they were recognised to the words that were meant."""

import functools
import itertools
import math
import string
from importlib.resources import files

import numpy as np
from symspellpy import SymSpell, Verbosity

# What a word's frequency counts beside how it was signed.
_WEIGHT_OF_FREQUENCY = 0.5
# Of a letter that was missed, or seen where none was meant, in nats as all costs here.
_GAP = 5.0
# Of a second letter like the one before: it takes a pause to sign, and a long hold makes one.
_DOUBLED = 1.5
_EDITS = 2


@functools.cache
def _dictionary() -> SymSpell:
    words = SymSpell(max_dictionary_edit_distance=_EDITS)
    words.load_dictionary(str(files("symspellpy") / "frequency_dictionary_en_82_765.txt"), 0, 1)
    return words


class Speller:
    """Finds words by what this network confuses: letters that it takes for each other are likely slips.

    SymSpell's list of 82,765 English words with their frequencies gives those within two edits; they are ranked by the
    sum of the costs of the edits, a letter taken for another costing what the confusion matrix makes of it, and of the
    rarity of the word.

    Args:
        classes: of the network.
        confusion: ``int``, shape ``(classes, classes)``; rows are the true classes, columns the predicted ones.
    """

    def __init__(self, classes: list[str], confusion: np.ndarray) -> None:
        self._words = _dictionary()
        self._letters = {name for name in classes if name in string.ascii_uppercase}
        # half a confusion is added everywhere: none so far does not mean never
        shares = (confusion + 0.5) / (confusion + 0.5).sum(axis=1, keepdims=True)
        costs = np.log(shares.diagonal())[:, np.newaxis] - np.log(shares)
        self._costs = {
            (true, seen): float(costs[i, j])
            for (i, true), (j, seen) in itertools.product(enumerate(classes), repeat=2)
            if true in self._letters and seen in self._letters
        }

    def candidates(self, letters: str, limit: int = 5) -> list[str]:
        """The likeliest words in capitals, the likeliest first; none where nothing is near."""
        found = self._words.lookup(letters.lower(), Verbosity.ALL, max_edit_distance=_EDITS)
        ranked = sorted(
            (self.cost(word.term.upper(), letters) - _WEIGHT_OF_FREQUENCY * math.log(word.count), word.term.upper())
            for word in found
            if word.term.isalpha()
        )
        return [word for _, word in ranked[:limit]]

    def cost(self, meant: str, seen: str) -> float:
        """Of taking one word for the other: the weighted edit distance (Wagner and Fischer, 1974)."""
        row = list(itertools.accumulate((self._gap(seen, j) for j in range(len(seen))), initial=0.0))
        for i, true in enumerate(meant):
            above, row = row, [row[0] + self._missed(meant, i)]
            for j, letter in enumerate(seen):
                row.append(
                    min(
                        above[j] + self._taken_for(true, letter),
                        above[j + 1] + self._missed(meant, i),
                        row[j] + self._gap(seen, j),
                    )
                )
        return row[-1]

    def _taken_for(self, true: str, seen: str) -> float:
        return 0.0 if true == seen else self._costs.get((true, seen), 2 * _GAP)

    def _missed(self, meant: str, place: int) -> float:
        # who signs a letter that the network does not know is not seen
        return _DOUBLED if meant[place] not in self._letters else self._gap(meant, place)

    @staticmethod
    def _gap(word: str, place: int) -> float:
        return _DOUBLED if place and word[place] == word[place - 1] else _GAP
