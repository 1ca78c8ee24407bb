"""Answers as text that every scorer can take: no lone surrogates, and white space folded."""

from __future__ import annotations

import unicodedata

_INVISIBLE = ("C", "Z")
"""Major Unicode categories without ink: controls, formats and unassigned; separators."""


def readable(answer: str) -> str:
    """`answer` with lone surrogates, which cannot be encoded, as U+FFFD, and stripped."""
    return answer.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").strip()


def says_nothing(text: str) -> bool:
    """Whether a person would see no character at all: empty, blank, NULs, zero-width marks."""
    return all(unicodedata.category(character)[0] in _INVISIBLE for character in text)


def fold_space(text: str) -> str:
    """`text` stripped, with each run of white space as one space."""
    return " ".join(text.split())
