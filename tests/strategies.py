"""Hypothesis strategies for the whole test suite: hostile text, answer keys."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from runner.domain import (
    AnswerKey,
    ChoiceCriterion,
    Criterion,
    ExactCriterion,
    JsonSubsetCriterion,
    NumericCriterion,
    RegexCriterion,
)

ANSWER_LIMIT = 50_000
"""Characters of the longest answer that is handed to a scorer by default."""

_any_character = st.characters(exclude_categories=())  # lone surrogates and NUL included

_pieces = [
    "[",
    "{",
    '{"a":',
    "[1,",
    '"',
    '"\\',
    "\\",
    "9",
    "1,",
    "1,111",
    "-",
    "1e",
    ".",
    "1.",
    "\u2212",
]
_pieces += ["\ud800", "\udfff\ud800", "\0", "\u200b", "\ufeff", "\u0301", "a\u0301\u0316", "\u202e"]
_pieces += [
    "answer:",
    "the answer is ",
    "answer is a ",
    "A ",
    "(",
    "```json\n",
    "```",
    "\n",
    "\r\n",
    "\t",
]
_pieces += [
    "NaN",
    "Infinity",
    "-Infinity",
    "null",
    "true",
    "a",
    "aa",
    "x y ",
    "\x1b]0;",
    "\u0660",
    "e1",
]
_seeds = st.sampled_from(_pieces)

floods = st.builds(lambda seed, size: (seed * size)[:size], _seeds, st.integers(1, ANSWER_LIMIT))
"""One short piece over and over, up to the limit of an answer."""

hostile_text = st.one_of(
    st.text(_any_character),
    floods,
    st.lists(st.one_of(_seeds, st.text(_any_character, max_size=8)), max_size=40).map("".join),
    st.builds(lambda a, b, c: (a + b + c)[:ANSWER_LIMIT], st.text(max_size=20), floods, _seeds),
)
"""Text as an agent that wants to hurt the scorer would write it."""

blank_text = st.text(st.sampled_from(" \t\r\n\0\x0b\x1f\u00a0\u200b\u200d\u2060\ufeff\u3000\u00ad"))
"""Text in which nobody sees anything."""

_words = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=12)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=10),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=15,
)
"""Values that JSON has."""


def _choice(choices: list[str]) -> st.SearchStrategy[ChoiceCriterion]:
    return st.sampled_from(choices).map(
        lambda expected: ChoiceCriterion(expected=expected, choices=tuple(choices))
    )


criteria: st.SearchStrategy[Criterion] = st.one_of(
    st.builds(ExactCriterion, expected=_words, case_sensitive=st.booleans()),
    st.builds(NumericCriterion, expected=st.floats(-1e15, 1e15)),
    st.lists(_words, min_size=2, max_size=5, unique_by=str.casefold).flatmap(_choice),
    st.builds(
        RegexCriterion,
        pattern=st.sampled_from(
            [r"(a+)+b", r"(?i)yes|no", r"(x{0,50}y){10}z", r"(a|aa)*c", "[0-9]+"]
        ),
        match=st.sampled_from(["full", "search", "absent"]),
    ),
    st.builds(
        JsonSubsetCriterion,
        expected=json_values,
        extra_keys=st.sampled_from(["allowed", "refused"]),
    ),
)
"""One criterion of any scorer."""

answer_keys = st.lists(st.tuples(criteria, st.floats(0.01, 100)), min_size=1, max_size=4).map(
    lambda weighted: AnswerKey(
        criteria=tuple(
            criterion.model_copy(update={"name": f"criterion-{index}", "weight": weight})
            for index, (criterion, weight) in enumerate(weighted)
        )
    )
)
"""Keys of one to four criteria with weights."""
