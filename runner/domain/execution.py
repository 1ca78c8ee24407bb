"""Results: of one attempt, of a category, of a whole benchmark."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, computed_field, model_validator

from runner.domain.attempt import Artifact, Measurement, SandboxFacts, Stage
from runner.domain.base import Noun
from runner.domain.category import BenchmarkCategory
from runner.domain.gateway import Divergence, ModelCall, TokenSource, ToolCall
from runner.domain.limits import Limits


class ExecutionStatus(StrEnum):
    """Where an execution stands."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    RESOURCE_EXCEEDED = "resource_exceeded"
    CANCELLED = "cancelled"


class FailureReason(StrEnum):
    """Why an attempt has no answer that counts."""

    AGENT_ERROR = "agent_error"
    AGENT_TIMEOUT = "agent_timeout"
    AGENT_UNREACHABLE = "agent_unreachable"
    MEMORY_EXCEEDED = "memory_exceeded"
    PIDS_EXCEEDED = "pids_exceeded"
    DISK_EXCEEDED = "disk_exceeded"
    OUTPUT_EXCEEDED = "output_exceeded"
    TOKEN_BUDGET_EXCEEDED = "token_budget_exceeded"  # noqa: S105 - a budget, not a secret
    COST_BUDGET_EXCEEDED = "cost_budget_exceeded"
    INVALID_OUTPUT = "invalid_output"
    SECURITY_VIOLATION = "security_violation"
    BUILD_FAILED = "build_failed"
    INTERNAL_ERROR = "internal_error"

    @property
    def retried(self) -> bool:
        """Whether a further attempt may be made: only where the agent cannot be to blame."""
        return self in (FailureReason.INTERNAL_ERROR, FailureReason.AGENT_UNREACHABLE)


class Result(Noun):
    """A noun with computed fields: they are written out, and ignored when it is read back."""

    @model_validator(mode="before")
    @classmethod
    def _ignore_computed(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: v for name, v in data.items() if name not in cls.model_computed_fields}


class ResourceUsage(Result):
    """What an attempt used; every figure is measured outside the agent."""

    tokens_input: int = 0
    tokens_output: int = 0
    execution_time_seconds: float = 0.0
    cpu_user_seconds: float = 0.0
    cpu_system_seconds: float = 0.0
    cpu_throttled_seconds: float = 0.0
    memory_peak_mb: float = 0.0
    """In MiB."""
    memory_peak_source: Literal["cgroup_peak", "stats_max_usage", "sampled"] | None = None
    oom_kills: int = 0
    pids_peak: int | None = None
    output_bytes: int = 0
    network_bytes: int = 0
    tool_calls_count: int = 0
    api_calls_count: int = 0
    cost_usd: float | None = None
    """None: unknown, which is not zero."""
    provider_wait_seconds: float = 0.0
    """Waiting for a provider that asked us to, or could not be reached (a remote agent's, or a
    model's); not part of `execution_time_seconds`."""
    model_seconds: float = 0.0
    """In which at least one model call was under way; part of `execution_time_seconds`."""
    token_source: TokenSource | None = None
    """The least trustworthy of the sources that the tokens come from; None: none were counted."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def tokens_total(self) -> int:
        """Input and output tokens together."""
        return self.tokens_input + self.tokens_output

    @computed_field  # type: ignore[prop-decorator]
    @property
    def cpu_seconds(self) -> float:
        """User and system time together."""
        return self.cpu_user_seconds + self.cpu_system_seconds

    def exceeds_budget(self, token_budget: int | None, time_budget: float | None) -> bool:
        """Whether more tokens, or more seconds, were used than the budget; None: no budget."""
        too_many_tokens = token_budget is not None and self.tokens_total > token_budget
        too_long = time_budget is not None and self.execution_time_seconds > time_budget
        return too_many_tokens or too_long


class CriterionScore(Noun):
    """The judgement of one criterion; never quotes the key."""

    name: str
    scorer: str
    weight: float
    points: float = Field(ge=0, le=1)
    detail: str = ""


class Score(Result):
    """The judgement of one answer."""

    raw: float = Field(ge=0)
    """Sum of weight times points."""
    maximum: float = Field(gt=0)
    """Sum of the weights."""
    criteria: tuple[CriterionScore, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def normalized(self) -> float:
        """0 to 100."""
        return 100.0 * (self.raw / self.maximum)


class TaskExecution(Noun):
    """One attempt at one task, judged. Attempts are append-only: a retry is another of these."""

    run_id: str
    submission_id: str
    task_id: str
    category: BenchmarkCategory
    repeat: int = Field(default=1, ge=1)
    attempt: int = Field(default=1, ge=1)
    status: ExecutionStatus
    failure_reason: FailureReason | None = None
    failure_detail: str = ""
    """One line for a person: the evidence for the reason."""
    input: str = ""
    output: str = ""
    output_truncated: bool = False
    resource_usage: ResourceUsage = ResourceUsage()
    score: Score | None = None
    """None where there was no verdict (cancelled, internal error)."""
    model_calls: tuple[ModelCall, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    seed: int = 0
    started_at: datetime
    finished_at: datetime
    limits: Limits
    limit_overrides: dict[str, float | int] = Field(default_factory=dict)
    """What the task or the command line set in place of the configured limits."""
    token_budget: int | None = None
    """Of model tokens; None: no budget."""
    cost_budget_usd: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    measurement: Measurement | None = None
    sandbox: SandboxFacts | None = None
    artifacts: tuple[Artifact, ...] = ()
    agent_confirmed_dead: bool = True
    claims: dict[str, int | float | str] = Field(default_factory=dict)
    claim_mismatches: tuple[str, ...] = ()
    """Claims that the measured figures contradict, one line each; they count for nothing."""
    divergence: Divergence | None = None
    """In a replay: the first request that the recording does not have."""
    reused_from: str = ""
    """The run whose result this is, where nothing was run anew (`run --reuse`)."""
    stages: tuple[Stage, ...] = ()
    trace_id: str = ""
    """32 hex digits; the trace in `trace.otlp.jsonl`."""

    @property
    def has_verdict(self) -> bool:
        """Whether it says anything of the agent; else a further attempt may be made."""
        return self.failure_reason is None or not self.failure_reason.retried

    @property
    def normalized_score(self) -> float:
        """0 to 100; an attempt without a verdict that counts scores 0."""
        return self.score.normalized if self.score else 0.0


class CategoryExecution(Result):
    """The final attempts at the tasks of one category."""

    category: BenchmarkCategory
    status: ExecutionStatus
    task_executions: tuple[TaskExecution, ...]
    """The last attempt of each task and repeat, in the order they were run in."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def normalized_score(self) -> float:
        """Mean of the tasks' normalized scores, 0 to 100."""
        scores = [execution.normalized_score for execution in self.task_executions]
        return sum(scores) / len(scores) if scores else 0.0


class BenchmarkExecution(Result):
    """A whole run: one submission against one suite."""

    run_id: str
    submission_id: str
    agent_name: str
    agent_version: str
    suite_name: str
    suite_version: str
    suite_digest: str
    status: ExecutionStatus
    seed: int
    image_id: str = ""
    started_at: datetime
    finished_at: datetime
    category_executions: dict[BenchmarkCategory, CategoryExecution]
    retried_attempts: int = 0
    """Attempts that were made again because our own side failed."""
    environment: dict[str, Any] = Field(default_factory=dict)
    """The `EnvironmentSnapshot` of the host that ran it."""
    runner_version: str = ""
    replay_of: str = ""
    """The run whose recorded exchanges took the place of models and tools."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def overall_score(self) -> float:
        """Mean of the categories' scores, 0 to 100."""
        scores = [c.normalized_score for c in self.category_executions.values()]
        return sum(scores) / len(scores) if scores else 0.0

    @property
    def judged(self) -> bool:
        """Whether every execution in it has a verdict."""
        return all(execution.has_verdict for execution in self.task_executions)

    @property
    def task_executions(self) -> list[TaskExecution]:
        """Those of all categories."""
        return [t for c in self.category_executions.values() for t in c.task_executions]


class ExecutionProgress(Noun):
    """How far a run is."""

    run_id: str
    total_tasks: int
    completed_tasks: int = 0
    failed_tasks: int = 0
    current_task: str | None = None
    message: str = ""
    status: ExecutionStatus = ExecutionStatus.PENDING
    started_at: datetime | None = None
    updated_at: datetime | None = None
    """Of the last event."""
    estimated_completion: datetime | None = None
    """From the measured durations of the tasks that have ended; None before the first has."""

    def progress_percentage(self) -> float:
        """0 to 100, by number of tasks that have ended."""
        if not self.total_tasks:
            return 100.0
        return 100.0 * (self.completed_tasks + self.failed_tasks) / self.total_tasks
