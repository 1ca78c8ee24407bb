"""A task is a prompt and an answer key; only the prompt may ever leave the host."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from runner.domain.base import Noun
from runner.domain.category import BenchmarkCategory, Difficulty
from runner.domain.limits import LimitOverrides

TaskId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""Letters, digits, dot, dash, underscore: it becomes the name of a directory."""

Weight = Annotated[float, Field(gt=0, le=1_000_000)]
"""What a criterion is worth, relative to the others of its task."""


class Prompt(Noun):
    """All that an agent may see of a task."""

    task_id: TaskId
    text: str
    tools: tuple[str, ...] = ()
    """Names of the gateway tools that the task offers."""


class ExactCriterion(Noun):
    """The answer, with white space and Unicode forms (NFC) folded, is the expected text."""

    scorer: Literal["exact"] = "exact"
    name: str = "answer"
    weight: Weight = 1.0
    expected: str
    case_sensitive: bool = False


class NumericCriterion(Noun):
    """The last number in the answer is within a tolerance of the expected one."""

    scorer: Literal["numeric"] = "numeric"
    name: str = "answer"
    weight: Weight = 1.0
    expected: float = Field(allow_inf_nan=False)
    absolute_tolerance: float = Field(default=1e-9, ge=0, allow_inf_nan=False)
    relative_tolerance: float = Field(default=0.0, ge=0, lt=1)


class ChoiceCriterion(Noun):
    """The answer gives one of the choices as its verdict, and it is the expected one."""

    scorer: Literal["choice"] = "choice"
    name: str = "answer"
    weight: Weight = 1.0
    expected: str
    choices: tuple[str, ...] = ("A", "B", "C", "D")


class RegexCriterion(Noun):
    """The answer matches a pattern (RE2 syntax: linear time, whatever the agent writes)."""

    scorer: Literal["regex"] = "regex"
    name: str = "answer"
    weight: Weight = 1.0
    pattern: str
    match: Literal["full", "search", "absent"] = "full"
    """full: the whole stripped answer; search: somewhere in it; absent: nowhere in it.

    `absent` earns its weight only where another criterion of the task is earned.
    """


class JsonSubsetCriterion(Noun):
    """The answer is one strict JSON document that contains the expected value."""

    scorer: Literal["json_subset"] = "json_subset"
    name: str = "answer"
    weight: Weight = 1.0
    expected: JsonValue
    extra_keys: Literal["allowed", "refused"] = "allowed"
    """Whether objects may have keys that the expected ones do not have."""


Criterion = Annotated[
    ExactCriterion | NumericCriterion | ChoiceCriterion | RegexCriterion | JsonSubsetCriterion,
    Field(discriminator="scorer"),
]


class AnswerKey(Noun):
    """All that an agent may never see of a task. Sandboxes and transports do not accept it."""

    criteria: tuple[Criterion, ...] = Field(min_length=1)


class BenchmarkTask(Noun):
    """One question with its key, and what an attempt at it may use."""

    task_id: TaskId
    category: BenchmarkCategory
    subcategory: str = ""
    difficulty: Difficulty = Difficulty.BASIC
    name: str
    prompt: Prompt
    answer_key: AnswerKey
    limits: LimitOverrides = LimitOverrides()
    """Where the task wants other limits than the configured ones."""
    token_budget: int | None = Field(default=None, gt=0)
    cost_budget_usd: float | None = Field(default=None, gt=0)
    """Of model calls; None: no budget."""
    tool_setups: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    """Settings of the tools that the prompt names: documents, tables, the clock's time."""
    version: str = "1"


class Suite(Noun):
    """A named, versioned collection of tasks."""

    name: str
    version: str
    description: str = ""
    digest: str
    """`sha256:` and the hex digest of the suite's files."""
    tasks: tuple[BenchmarkTask, ...]
