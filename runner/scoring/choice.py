"""Choice: the answer gives one of the choices as its verdict, and it is the expected one."""

from __future__ import annotations

import re

from runner.domain import ChoiceCriterion
from runner.scoring.text import fold_space
from runner.scoring.verdict import Verdict, hit, miss

_QUOTES = "\"'`\u201c\u201d\u2018\u2019"
_OPENING = rf"[\s(\[{{*_{_QUOTES}]{{0,8}}"
_CLOSING = rf"\s?(?:$|[.,:;!)\]}}*_{_QUOTES}\u2013\u2014-])"
_ANNOUNCED = r"(?<!\w)(?:answer|verdict|choice)(?: is ?:?| ?[:=])"
_WORD = re.compile(r" [a-z]")
_ARTICLES = ("a", "i")
"""Choices that are English words too: `B. A town` does not name the choice A."""


def judge_choice(text: str, criterion: ChoiceCriterion) -> Verdict:
    """Compares without regard to case; an answer that names several choices has no verdict."""
    folded = fold_space(text).casefold()
    choices = [fold_space(choice).casefold() for choice in criterion.choices]
    named = _named_from_verdict_on(folded, choices)
    if not named:
        return miss("no choice given as the verdict")
    if len(named) > 1:
        return miss("several choices given")
    if named == {fold_space(criterion.expected).casefold()}:
        return hit("the expected choice")
    return miss("another choice than the expected one")


def _named_from_verdict_on(text: str, choices: list[str]) -> set[str]:
    """The verdict and every choice named after it; empty where there is no verdict."""
    # Longest first, so that `not stated` is not read as `stated`.
    any_choice = "|".join(re.escape(choice) for choice in sorted(choices, key=len, reverse=True))
    verdict = _verdict(text, any_choice)
    if verdict is None:
        return set()
    mentions = re.finditer(rf"(?<!\w)(?:{any_choice})(?!\w)", text[verdict.end(1) :])
    return {verdict[1]} | {found[0] for found in mentions if not _is_article(found)}


def _verdict(text: str, any_choice: str) -> re.Match[str] | None:
    """`Answer: B` or `The answer is (b)` anywhere, else `B`, `(b)` or `B. Rome` at the start."""
    announced = re.search(rf"{_ANNOUNCED}{_OPENING}({any_choice})(?!\w)", text)
    return announced or re.match(rf"{_OPENING}({any_choice})(?!\w){_CLOSING}", text)


def _is_article(found: re.Match[str]) -> bool:
    return found[0] in _ARTICLES and _WORD.match(found.string, found.end()) is not None
