"""The starter suite as a whole: enough of everything, no keys in prompts, no credit for nothing."""

from __future__ import annotations

import gc
import json
import re
import string
from collections import Counter
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from runner.domain import (
    AnswerKey,
    BenchmarkCategory,
    BenchmarkTask,
    ChoiceCriterion,
    Criterion,
    Difficulty,
    ExactCriterion,
    JsonSubsetCriterion,
    NumericCriterion,
    Prompt,
    RegexCriterion,
)
from runner.scoring import DefaultScorer
from runner.suites import DirectoryCatalog

SUITE = DirectoryCatalog().load("starter")
every_task = pytest.mark.parametrize("task", SUITE.tasks, ids=lambda task: task.task_id)

EXTRACTED = {
    "grounding-json-01": "the value is looked up in the prompt",
    "grounding-json-02": "the value is looked up in the prompt",
    "grounding-passage-01": "the name is found in the passage",
}
"""Tasks whose very point is to find the key's text in the prompt, and why."""


def test_enough_tasks_of_every_kind() -> None:
    assert len(SUITE.tasks) >= 36
    by_category = Counter(task.category for task in SUITE.tasks)
    assert all(by_category[category] >= 6 for category in BenchmarkCategory)
    assert {task.difficulty for task in SUITE.tasks} == set(Difficulty)
    for category in BenchmarkCategory:
        levels = {task.difficulty for task in SUITE.tasks if task.category is category}
        assert len(levels) >= 3, category


def test_every_scorer_is_used() -> None:
    assert set().union(*map(scorers_of, SUITE.tasks)) == {
        "exact",
        "numeric",
        "choice",
        "regex",
        "json_subset",
    }


@every_task
def test_a_prompt_says_what_form_the_answer_has(task: BenchmarkTask) -> None:
    assert re.search(r"\bAnswer with\b.*\balone\b", task.prompt.text, re.DOTALL)
    assert task.task_id.startswith(f"{task.category}-")
    assert not task.prompt.tools


# -- what an agent sees --------------------------------------------------------------------------


def test_a_prompt_has_these_fields_and_no_others() -> None:
    assert {name: field.annotation for name, field in Prompt.model_fields.items()} == {
        "task_id": str,
        "text": str,
        "tools": tuple[str, ...],
    }
    with pytest.raises(ValidationError):
        Prompt.model_validate({"task_id": "a", "text": "b", "answer_key": None})


def reachable(value: object) -> Iterator[object]:
    """Everything that instances refer to, classes aside."""
    seen: set[int] = set()
    queue = [value]
    while queue:
        found = queue.pop()
        if id(found) not in seen and not isinstance(found, type):
            seen.add(id(found))
            yield found
            queue += gc.get_referents(found)


@every_task
def test_no_key_can_be_reached_from_a_prompt(task: BenchmarkTask) -> None:
    forbidden = (AnswerKey, BenchmarkTask, *Criterion.__origin__.__args__)  # type: ignore[attr-defined]
    assert not [found for found in reachable(task.prompt) if isinstance(found, forbidden)]
    assert any(isinstance(found, forbidden) for found in reachable(task))  # the search works


@every_task
def test_a_serialised_prompt_does_not_hold_the_key(task: BenchmarkTask) -> None:
    if task.task_id in EXTRACTED:
        return
    sent = f"{task.prompt.model_dump_json()}\n{task.prompt.text}".casefold()
    for criterion in task.answer_key.criteria:
        for secret in secrets_of(criterion):
            whole = rf"(?<![\w.-]){re.escape(secret.casefold())}(?!\w)"
            assert not re.search(whole, sent), secret


def secrets_of(criterion: Criterion) -> list[str]:
    """Texts that are the answer, and that a prompt has no need to hold."""
    match criterion:
        case NumericCriterion():
            return [f"{criterion.expected:.0f}", f"{criterion.expected:,.0f}"]
        case ExactCriterion():
            return [criterion.expected]
        case JsonSubsetCriterion():
            expected = criterion.expected
            forms = [json.dumps(expected), json.dumps(expected, separators=(",", ":"))]
            lists = [expected] if isinstance(expected, list) else []
            return forms + [", ".join(map(str, items)) for items in lists]
        case ChoiceCriterion():
            return [f"answer: {criterion.expected}", f"answer is {criterion.expected}"]
        case RegexCriterion():
            return [criterion.pattern]


# -- answers that took no work -------------------------------------------------------------------

SPRAYS = [
    *string.ascii_uppercase,
    *map(str, range(-20, 20)),
    *("yes", "no", "true", "false", "null", "none", "not stated", "unknown", "I do not know", "?"),
    *("[]", "{}", "[[]]", '""', "[null]", '{"tool": "none"}', '{"answer": 0}', "NaN", "Infinity"),
    *("A B C D", "A, B, C, D", "(A) (B) (C) (D)", "A or B", "Answer: A, Answer: B, Answer: C"),
    " ".join(map(str, range(10_000))),
    ", ".join(map(str, range(10_000))),
    "\n".join(f"The answer is {letter}." for letter in "ABCDE"),
    json.dumps(dict.fromkeys(("tool", "arguments", "route", "value", "items", "latin"), 1)),
    string.printable,
]


@pytest.mark.parametrize("answer", SPRAYS, ids=lambda answer: ascii(answer[:20]))
def test_the_same_answer_to_everything_earns_next_to_nothing(answer: str) -> None:
    scores = [DefaultScorer().score(answer, task.answer_key).normalized for task in SUITE.tasks]
    assert sum(scores) / len(scores) <= 2.0


@every_task
def test_repeating_the_prompt_earns_nothing(task: BenchmarkTask) -> None:
    text = task.prompt.text
    sentences = re.split(r"(?<=[.?!:])\s", text)
    # A line of a multiple choice, such as `B) a knave`, is a choice made, not a repetition.
    pieces = [] if "choice" in scorers_of(task) else [*sentences, *text.splitlines()]
    for answer in [text, text[::-1], task.prompt.model_dump_json(), *pieces]:
        assert DefaultScorer().score(answer, task.answer_key).raw == 0, answer


def scorers_of(task: BenchmarkTask) -> set[str]:
    return {criterion.scorer for criterion in task.answer_key.criteria}


@every_task
@pytest.mark.parametrize("answer", ["", " ", "\n\n", "\0", "\u200b\ufeff", "\u00a0", "\ud800"])
def test_no_answer_earns_nothing(task: BenchmarkTask, answer: str) -> None:
    assert DefaultScorer().score(answer, task.answer_key).raw == 0


def test_answers_to_one_task_do_not_solve_another() -> None:
    """No two keys of the same form are equal, so that one lucky constant is worth one task."""
    keys = Counter(task.answer_key.model_dump_json() for task in SUITE.tasks)
    assert max(keys.values()) == 1
