"""Exact: the folded answer is the expected text."""

from __future__ import annotations

import unicodedata

from runner.domain import ExactCriterion
from runner.scoring.text import fold_space
from runner.scoring.verdict import Verdict, hit, miss

_LONGEST_DECOMPOSITION = 4
"""No character of Unicode has a longer canonical decomposition (UAX #15)."""


def judge_exact(text: str, criterion: ExactCriterion) -> Verdict:
    """Compares canonical forms (NFC), so that it does not matter how accents are encoded."""
    answer, expected = fold_space(text), fold_space(criterion.expected)
    # Normalising takes quadratic time on long runs of combining marks: never on hostile lengths.
    if len(answer) > _LONGEST_DECOMPOSITION * len(expected):
        return miss("longer than the expected text")
    if _canonical(answer, criterion) == _canonical(expected, criterion):
        return hit("the expected text")
    return miss("another text than the expected one")


def _canonical(text: str, criterion: ExactCriterion) -> str:
    composed = unicodedata.normalize("NFC", text)
    return composed if criterion.case_sensitive else composed.casefold()
