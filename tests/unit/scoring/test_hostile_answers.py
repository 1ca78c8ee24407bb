"""No answer, however made, breaks a scorer, slows it down, or gets credit without being right."""

from __future__ import annotations

import json
import string
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.domain import (
    AnswerKey,
    ChoiceCriterion,
    ExactCriterion,
    JsonSubsetCriterion,
    NumericCriterion,
    RegexCriterion,
)
from runner.scoring import DefaultScorer
from tests.strategies import (
    ANSWER_LIMIT,
    answer_keys,
    blank_text,
    criteria,
    hostile_text,
    json_values,
)

SCORER = DefaultScorer()
SECONDS = 2.0
"""Far above what any answer takes (below 0.1 s), far below what quadratic time would."""

hostile = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

EVERY_SCORER = AnswerKey(
    criteria=(
        ExactCriterion(name="exact", expected="x"),
        NumericCriterion(name="numeric", expected=3),
        ChoiceCriterion(name="choice", expected="B"),
        RegexCriterion(name="full", pattern=r"(a+)+b(x{0,30}y){10}"),
        RegexCriterion(name="search", pattern=r"(a|aa)*c", match="search"),
        RegexCriterion(name="absent", pattern="(x+x+)+y", match="absent"),
        JsonSubsetCriterion(name="json", expected={"a": 1}),
    )
)


@hostile
@given(hostile_text, answer_keys)
def test_a_score_is_made_of_anything(answer: str, key: AnswerKey) -> None:
    score = SCORER.score(answer, key)
    assert 0 <= score.raw <= score.maximum
    assert 0 <= score.normalized <= 100
    assert len(score.criteria) == len(key.criteria)
    assert score.model_dump_json()


@hostile
@given(hostile_text, answer_keys)
def test_the_same_answer_has_the_same_score(answer: str, key: AnswerKey) -> None:
    assert SCORER.score(answer, key) == SCORER.score(answer, key)


@hostile
@given(hostile_text, answer_keys)
def test_white_space_around_it_does_not_matter(answer: str, key: AnswerKey) -> None:
    assert SCORER.score(f"\n  {answer}\t\n", key) == SCORER.score(answer, key)


@hostile
@given(blank_text, answer_keys)
def test_an_empty_answer_scores_nothing(answer: str, key: AnswerKey) -> None:
    assert SCORER.score(answer, key).raw == 0


@hostile
@given(hostile_text, answer_keys)
def test_more_criteria_never_lower_the_points(answer: str, key: AnswerKey) -> None:
    whole = SCORER.score(answer, key)
    for count in range(1, len(key.criteria)):
        part = SCORER.score(answer, AnswerKey(criteria=key.criteria[:count]))
        assert part.raw <= whole.raw
        for before, after in zip(part.criteria, whole.criteria, strict=False):
            assert before.points <= after.points


@hostile
@given(hostile_text, st.floats(-1e9, 1e9), st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_wider_tolerance_takes_no_less(answer: str, expected: float, a: float, b: float) -> None:
    narrow, wide = (
        SCORER.score(answer, AnswerKey(criteria=(criterion,))).raw
        for criterion in (
            NumericCriterion(expected=expected, absolute_tolerance=min(a, b)),
            NumericCriterion(expected=expected, absolute_tolerance=max(a, b)),
        )
    )
    assert narrow <= wide


@given(st.floats(-1e15, 1e15), st.floats(-1e15, 1e15))
def test_a_number_written_as_python_writes_it_is_read_back(expected: float, other: float) -> None:
    key = AnswerKey(criteria=(NumericCriterion(expected=expected, absolute_tolerance=0),))
    assert SCORER.score(repr(expected), key).normalized == 100
    assert SCORER.score(repr(other), key).raw == (1 if other == expected else 0)


@given(json_values)
def test_json_contains_itself(value: object) -> None:
    key = AnswerKey(criteria=(JsonSubsetCriterion.model_validate({"expected": value}),))
    assert SCORER.score(json.dumps(value), key).normalized == 100


@given(
    st.sampled_from("ABCD"),
    st.permutations("ABCD"),
    st.sampled_from([" ", ", ", "/", "\n", " or "]),
)
def test_naming_several_choices_is_no_choice(expected: str, order: list[str], glue: str) -> None:
    key = AnswerKey(criteria=(ChoiceCriterion(expected=expected),))
    for count in (2, 3, 4):
        spray = glue.join(order[:count])
        for answer in (spray, spray.lower(), f"Answer: {spray}", f"The answer is {spray}"):
            assert SCORER.score(answer, key).raw == 0, answer


@hostile
@given(hostile_text, criteria)
def test_details_are_our_own_words(answer: str, criterion: object) -> None:
    key = AnswerKey.model_validate({"criteria": (criterion,)})
    allowed = set(string.ascii_letters + " ,")
    assert set(SCORER.score(answer, key).criteria[0].detail) <= allowed


FLOODS = [
    "[",
    '{"a":',
    "9",
    '"',
    '"\\',
    '"\\"',
    "a",
    "\0",
    "\ud800",
    "answer:",
    "answer: (",
    "-",
    "A ",
]
FLOODS += [
    "a\u0301\u0316",
    "\u0301\u0316",
    "1,",
    "1 ",
    "1.",
    "1,111",
    "answer is a ",
    "```json\n",
    "\n```",
]
FLOODS += ["{}", " \tx", "e1", "`", "1e", "\u2212", ".", "aac", "xxy", "(", "[1,", "\\", "\n\t"]


@pytest.mark.parametrize("piece", FLOODS, ids=ascii)
@pytest.mark.parametrize("start", ["", "answer is ", "```json\n", '"', "1"], ids=ascii)
def test_a_flood_is_judged_at_once(piece: str, start: str) -> None:
    answer = (start + piece * ANSWER_LIMIT)[:ANSWER_LIMIT]
    began = time.perf_counter()
    SCORER.score(answer, EVERY_SCORER)
    assert time.perf_counter() - began < SECONDS
