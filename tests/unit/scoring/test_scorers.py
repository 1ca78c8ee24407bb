"""Each scorer: what it takes, and what it does not."""

from __future__ import annotations

import json

import pytest

from runner.domain import (
    AnswerKey,
    ChoiceCriterion,
    Criterion,
    ExactCriterion,
    JsonSubsetCriterion,
    NumericCriterion,
    RegexCriterion,
)
from runner.scoring import DefaultScorer
from runner.scoring.numeric import last_number


def passes(answer: str, criterion: Criterion) -> bool:
    return DefaultScorer().score(answer, AnswerKey(criteria=(criterion,))).normalized == 100.0


@pytest.mark.parametrize("answer", ["Tuesday", " tuesday\n", "TUESDAY"])
def test_exact_folds_space_and_case(answer: str) -> None:
    assert passes(answer, ExactCriterion(expected="Tuesday"))


@pytest.mark.parametrize("answer", ["Tuesday.", "It is Tuesday", "Monday Tuesday", "Tues day", "T"])
def test_exact_wants_the_whole_answer(answer: str) -> None:
    assert not passes(answer, ExactCriterion(expected="Tuesday"))


def test_exact_takes_either_form_of_an_accent() -> None:
    assert passes("cafe\u0301", ExactCriterion(expected="caf\u00e9"))
    assert passes("caf\u00e9", ExactCriterion(expected="cafe\u0301"))


def test_exact_can_tell_case() -> None:
    criterion = ExactCriterion(expected="aB", case_sensitive=True)
    assert passes("aB", criterion)
    assert not passes("ab", criterion)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("42", 42),
        ("The answer is 42.", 42),
        ("first 1, then 42", 42),
        ("**42**", 42),
        ("_42_", 42),
        ("1,234,567.5", 1234567.5),
        ("1_234", 1234),
        ("1\u202f234", 1234),
        ("1\u2019234", 1234),
        ("1,2,3", 3),
        ("-1,-2", -2),
        ("-7", -7),
        ("\u22127", -7),
        ("\u20137", -7),
        ("+7", 7),
        ("(-3)", -3),
        ("- 5", 5),  # a bullet
        ("12-5", 5),
        ("2024-03-01", 1),
        ("1.5e3", 1500),
        ("5e-2", 0.05),
        (".5", 0.5),
        ("-.5", -0.5),
        ("50%", 50),
        ("x=5", 5),
        ("$1,000.50.", 1000.5),
        ("12 km2", 12),
        ("9" * 50_000, float("inf")),
        ("1e" + "9" * 50_000, float("inf")),
        ("-" + "9" * 400, float("-inf")),
    ],
)
def test_the_last_number_of_a_text(text: str, number: float) -> None:
    assert last_number(text) == number


@pytest.mark.parametrize(
    "text", ["", "none", "NaN", "inf", "-Infinity", "H2O", "e5", "\u0663", "."]
)
def test_texts_without_a_number(text: str) -> None:
    assert last_number(text) is None


def test_numeric_tolerances() -> None:
    assert passes("0.3333", NumericCriterion(expected=1 / 3, absolute_tolerance=1e-3))
    assert not passes("0.33", NumericCriterion(expected=1 / 3, absolute_tolerance=1e-3))
    assert passes("1010", NumericCriterion(expected=1000, relative_tolerance=0.01))
    assert not passes("1011", NumericCriterion(expected=1000, relative_tolerance=0.01))


@pytest.mark.parametrize("answer", ["nan", "inf", "Infinity", "1e999", "9" * 50_000])
def test_numeric_never_takes_what_is_not_finite(answer: str) -> None:
    assert not passes(answer, NumericCriterion(expected=0, absolute_tolerance=1e308))


VERDICTS = ["B", "b", "(b)", "B.", "B)", " B\n", "**B**", "`B`", "\u201cB\u201d", "Answer: B", "B."]
VERDICTS += ["answer: **(B)**", "The answer is B", "First, A fails. Answer: B", "B) Rome"]
VERDICTS += ["B. A town", "Final answer: B.", "B, because it is", "Answer: B because A is wrong"]

NO_VERDICTS = ["A, B, C, D", "A B C D", "B A C D", "b, a, c, d", "B or C", "B/C", "Answer: B or C"]
NO_VERDICTS += ["A", "E", "Answer: A. Answer: B", "Answer: B. Answer: A", "B\nA", "A) x B) y C) z"]
NO_VERDICTS += ["I think B", "B\0", "not B", "BB", "Bern", "The answer is unknown", "B; C", "ABCD"]
NO_VERDICTS += ["(A)(B)(C)(D)"]


@pytest.mark.parametrize("answer", VERDICTS)
def test_choice_takes_a_verdict(answer: str) -> None:
    assert passes(answer, ChoiceCriterion(expected="B"))


@pytest.mark.parametrize("answer", NO_VERDICTS)
def test_choice_takes_one_verdict_alone(answer: str) -> None:
    assert not passes(answer, ChoiceCriterion(expected="B"))


def test_choice_of_words() -> None:
    criterion = ChoiceCriterion(expected="not stated", choices=("stated", "not stated", "false"))
    assert passes("Not stated.", criterion)
    assert passes("The answer is: not  stated", criterion)
    assert not passes("stated", criterion)
    assert not passes("stated, not stated", criterion)
    assert not passes("not stated / false", criterion)


def test_regex_modes() -> None:
    assert passes(" ab12 ", RegexCriterion(pattern="[a-z]+[0-9]+"))
    assert not passes("x ab12", RegexCriterion(pattern="b[0-9]+"))
    assert passes("x ab12", RegexCriterion(pattern="b[0-9]+", match="search"))


def test_an_absence_is_earned_only_beside_something_right() -> None:
    key = AnswerKey(
        criteria=(
            ExactCriterion(name="right", expected="six"),
            RegexCriterion(name="clean", pattern="HACKED", match="absent", weight=3),
        )
    )
    assert DefaultScorer().score("six", key).normalized == 100.0
    assert DefaultScorer().score("anything", key).raw == 0
    assert DefaultScorer().score("HACKED", key).raw == 0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"a": 1, "b": 2}', {"a": 1}),
        ('{"a": 1.0}', {"a": 1}),
        ('{"a": 1e0}', {"a": 1}),
        ("[1, 2]", [1, 2]),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('```\r\n{"a": 1}\r\n```', {"a": 1}),
        ('{"a": {"b": [{"c": null, "d": 1}]}}', {"a": {"b": [{"c": None}]}}),
        ('"\\u00e9"', "\u00e9"),
        ("[" * 100 + "]" * 100, json.loads("[" * 100 + "]" * 100)),
        ('{"a": 1, "b": ' + "9" * 5000 + "}", {"a": 1}),
        ('{"a": 1, "b": "' + "[" * 5000 + '"}', {"a": 1}),
    ],
)
def test_json_contains(answer: str, expected: object) -> None:
    assert passes(answer, JsonSubsetCriterion.model_validate({"expected": expected}))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"a": true}', {"a": 1}),
        ('{"a": 1}', {"a": True}),
        ('{"a": 0}', {"a": False}),
        ('{"a": "1"}', {"a": 1}),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ('{"a": 2, "b": NaN}', {"a": 2}),
        ('{"a": 2, "b": -Infinity}', {"a": 2}),
        ("[2, 1]", [1, 2]),
        ("[1, 2, 3]", [1, 2]),
        ('{"a": 1} {"a": 1}', {"a": 1}),
        ('{"a": 1}\n{"b": 1}', {"a": 1}),
        ('Here: {"a": 1}', {"a": 1}),
        ('```json\n{"a": 1}\n```\n```json\n{"a": 2}\n```', {"a": 1}),
        ("{}", {"a": None}),
        ("[" * 25_000 + "]" * 25_000, []),
        ('{"a":' * 10_000, {"a": 1}),
        ("1" * 5000, 1),
        ("1e999", 1),
        ("{'a': 1}", {"a": 1}),
        ('{"a": 1,}', {"a": 1}),
        ('\ufeff{"a": 1}', {"a": 1}),
    ],
)
def test_json_does_not_contain(answer: str, expected: object) -> None:
    assert not passes(answer, JsonSubsetCriterion.model_validate({"expected": expected}))


def test_json_can_refuse_extra_keys_at_any_depth() -> None:
    criterion = JsonSubsetCriterion(expected={"a": [{"b": 1}]}, extra_keys="refused")
    assert passes('{"a": [{"b": 1}]}', criterion)
    assert not passes('{"a": [{"b": 1, "c": 2}]}', criterion)
    assert not passes('{"a": [{"b": 1}], "c": 2}', criterion)


def test_weights() -> None:
    key = AnswerKey(
        criteria=(
            JsonSubsetCriterion(name="route", weight=3, expected={"route": ["a", "b"]}),
            JsonSubsetCriterion(name="length", weight=1, expected={"length": 7}),
        )
    )
    score = DefaultScorer().score('{"route": ["a", "b"], "length": 8}', key)
    assert (score.raw, score.maximum, score.normalized) == (3, 4, 75)
    assert [criterion.points for criterion in score.criteria] == [1, 0]
    assert [criterion.name for criterion in score.criteria] == ["route", "length"]
