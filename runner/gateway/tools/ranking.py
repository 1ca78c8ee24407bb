"""BM25: which of a few texts fit a query best."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

_WORD = re.compile(r"\w+")
_K1 = 1.5
_B = 0.75
_QUERY_WORDS = 64


class Ranking:
    """An index of texts by their words (Robertson and Zaragoza 2009, k1 = 1.5, b = 0.75)."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._counts = [Counter(words_of(text)) for text in texts]
        self._lengths = [counts.total() for counts in self._counts]
        self._average = max(1.0, sum(self._lengths) / max(1, len(texts)))
        self._holding = Counter(word for counts in self._counts for word in counts)

    def best(self, query: str) -> list[tuple[int, float]]:
        """Index and score of each text with a word of `query`, best first, ties by index."""
        words = sorted(set(words_of(query)[:_QUERY_WORDS]))
        scores = [(index, self._score(words, index)) for index in range(len(self._counts))]
        return sorted(((i, s) for i, s in scores if s > 0), key=lambda pair: (-pair[1], pair[0]))

    def _score(self, words: Sequence[str], index: int) -> float:
        counts = self._counts[index]
        length = 1 - _B + _B * self._lengths[index] / self._average
        return math.fsum(
            self._rarity(word) * counts[word] * (_K1 + 1) / (counts[word] + _K1 * length)
            for word in words
            if word in counts
        )

    def _rarity(self, word: str) -> float:
        held = self._holding[word]
        return math.log(1 + (len(self._counts) - held + 0.5) / (held + 0.5))


def words_of(text: str) -> list[str]:
    """Its words, whatever their case; English plurals count as the singular."""
    return [_stem(word) for word in _WORD.findall(text.casefold())]


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
