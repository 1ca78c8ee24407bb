"""What runs have cost, and what one is expected to cost."""

from __future__ import annotations

from datetime import date
from enum import StrEnum

from runner.domain.base import Noun


class SpendingTotals(Noun):
    """Sums over model calls. Money that nobody knows is counted as calls, never as zero."""

    calls: int = 0
    cached_calls: int = 0
    """Of `calls`: answered from a cache, so that no provider was paid for them."""
    tokens_input: int = 0
    tokens_output: int = 0
    tokens_cached: int = 0
    """Of the input and output tokens: those of the cached calls."""
    cost_usd: float = 0.0
    """Of the calls whose cost is known."""
    unknown_cost_calls: int = 0
    """Of `calls`: those whose cost nobody knows; it comes on top of `cost_usd`."""

    def __add__(self, other: SpendingTotals) -> SpendingTotals:
        """Both together."""
        mine, theirs = self.model_dump(), other.model_dump()
        return SpendingTotals(**{name: mine[name] + theirs[name] for name in mine})

    @property
    def known_cost_usd(self) -> float | None:
        """None where there are calls, and nothing at all is known of what they cost."""
        return None if self.calls and self.unknown_cost_calls == self.calls else self.cost_usd


class SpendingBy(StrEnum):
    """What a report has a line for."""

    MODEL = "model"
    SUBMITTER = "submitter"
    RUN = "run"
    DAY = "day"


class SpendingGroup(Noun):
    """One line of a report."""

    name: str
    """Of a model `UPSTREAM/NAME`, of a day `2026-03-14` (UTC); hostile."""
    runs: int
    totals: SpendingTotals


class SpendingReport(Noun):
    """What all runs of a directory have spent, attempts that were not kept included."""

    by: SpendingBy
    since: date | None = None
    """The first day that counts, in UTC; None: all of them."""
    groups: tuple[SpendingGroup, ...] = ()
    """By name."""
    total: SpendingTotals = SpendingTotals()
    runs: int = 0
    """Those with at least one call that counts."""
    damaged_lines: int = 0
    """Of all files: calls that may have cost something, and that nobody can read any more."""


class Basis(StrEnum):
    """What the forecast of a task rests on, the best first."""

    SAME_TASK = "same_agent_same_task"
    SAME_AGENT = "same_agent_other_tasks"
    OTHER_AGENTS = "other_agents_same_task"
    NOTHING = "nothing"


class Figure(Noun):
    """A forecast: the median, and an interval around it."""

    low: float
    median: float
    high: float


class TaskForecast(Noun):
    """One task, each of its repeats; medians of the attempts that it rests on."""

    task_id: str
    basis: Basis
    samples: int = 0
    tokens: float | None = None
    cost_usd: float | None = None
    """None: unknown, which is not zero."""
    seconds: float | None = None


class Forecast(Noun):
    """What a run is expected to use; None: nothing is known of it."""

    agent_name: str
    suite_name: str
    attempts: int
    """Tasks times repeats."""
    parallelism: int
    interval: float
    """The share of outcomes that lie between low and high, if the future is like the past."""
    tokens_input: Figure | None = None
    tokens_output: Figure | None = None
    tokens_total: Figure | None = None
    cost_usd: Figure | None = None
    container_seconds: Figure | None = None
    """Of all attempts, one after the other."""
    wall_seconds: Figure | None = None
    """Of the run, with `parallelism` attempts at once."""
    disk_bytes: Figure | None = None
    """Of the run's directory."""
    tasks: tuple[TaskForecast, ...] = ()
    samples: int = 0
    """Earlier attempts that it rests on, each counted once."""
    runs: int = 0
    """That these were made in."""
    unknown_tasks: int = 0
    """On which nothing is known; they are in no figure."""
    unknown_cost_tasks: int = 0
    """Further ones of which only the cost is unknown; they are in all figures but the cost."""
    pilot: str = ""
    """The run that was made for it."""

    def resting_on(self, basis: Basis) -> int:
        """How many tasks rest on it."""
        return sum(task.basis is basis for task in self.tasks)
