"""What the files of a suite hold, as their author writes it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from runner.domain import (
    AnswerKey,
    BenchmarkCategory,
    BenchmarkTask,
    Criterion,
    Difficulty,
    LimitOverrides,
    Prompt,
)
from runner.domain.task import TaskId

FORMAT = 1
"""The version of the suite format that this runner reads and writes."""

Line = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\p{Cc}]+$")]
"""A line for a person: no control characters."""


class Entry(BaseModel):
    """Closed to unknown fields, so that a misspelt one is found."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SuiteHeader(Entry):
    """`suite.toml`."""

    format: int = Field(ge=1, le=FORMAT)
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    version: Line
    description: str = ""


class TaskEntry(Entry):
    """One `[[task]]` of a category's file; prompt and key side by side, for their author."""

    task_id: TaskId
    name: Line
    subcategory: str = ""
    difficulty: Difficulty = Difficulty.BASIC
    prompt: str
    tools: tuple[str, ...] = ()
    tool_setups: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    limits: LimitOverrides = LimitOverrides()
    token_budget: int | None = Field(default=None, gt=0)
    cost_budget_usd: float | None = Field(default=None, gt=0)
    version: str = "1"
    criteria: tuple[Criterion, ...] = Field(min_length=1)

    def task(self, category: BenchmarkCategory) -> BenchmarkTask:
        """The noun, with what an agent may see parted from what it may not."""
        return BenchmarkTask(
            task_id=self.task_id,
            category=category,
            subcategory=self.subcategory,
            difficulty=self.difficulty,
            name=self.name,
            prompt=Prompt(task_id=self.task_id, text=self.prompt, tools=self.tools),
            answer_key=AnswerKey(criteria=self.criteria),
            limits=self.limits,
            token_budget=self.token_budget,
            cost_budget_usd=self.cost_budget_usd,
            tool_setups=self.tool_setups,
            version=self.version,
        )
