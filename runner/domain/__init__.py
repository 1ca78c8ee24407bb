"""The nouns: frozen, pure, no I/O."""

from __future__ import annotations

from runner.domain.attempt import (
    Artifact,
    Attempt,
    ContainerEnd,
    Ending,
    EndingKind,
    Measurement,
    Reply,
    SandboxFacts,
    Stage,
)
from runner.domain.category import (
    BenchmarkCategory,
    Difficulty,
)
from runner.domain.execution import (
    BenchmarkExecution,
    CategoryExecution,
    CriterionScore,
    ExecutionProgress,
    ExecutionStatus,
    FailureReason,
    ResourceUsage,
    Result,
    Score,
    TaskExecution,
)
from runner.domain.image import (
    FunctionInterface,
    HttpInterface,
    Image,
    Interface,
    StdioInterface,
)
from runner.domain.limits import (
    MIB,
    LimitOverrides,
    Limits,
)
from runner.domain.run import (
    EventKind,
    LoadedRun,
    RecordedAttempt,
    RunEvent,
    RunPlan,
    RunSummary,
)
from runner.domain.submission import (
    AgentEndpoint,
    BenchmarkSubmission,
)
from runner.domain.task import (
    AnswerKey,
    BenchmarkTask,
    ChoiceCriterion,
    Criterion,
    ExactCriterion,
    JsonSubsetCriterion,
    NumericCriterion,
    Prompt,
    RegexCriterion,
    Suite,
)
from runner.domain.trace import (
    TraceEvent,
    TraceSpan,
)

__all__ = [
    "MIB",
    "AgentEndpoint",
    "AnswerKey",
    "Artifact",
    "Attempt",
    "BenchmarkCategory",
    "BenchmarkExecution",
    "BenchmarkSubmission",
    "BenchmarkTask",
    "CategoryExecution",
    "ChoiceCriterion",
    "ContainerEnd",
    "Criterion",
    "CriterionScore",
    "Difficulty",
    "Ending",
    "EndingKind",
    "EventKind",
    "ExactCriterion",
    "ExecutionProgress",
    "ExecutionStatus",
    "FailureReason",
    "FunctionInterface",
    "HttpInterface",
    "Image",
    "Interface",
    "JsonSubsetCriterion",
    "LimitOverrides",
    "Limits",
    "LoadedRun",
    "Measurement",
    "NumericCriterion",
    "Prompt",
    "RecordedAttempt",
    "RegexCriterion",
    "Reply",
    "ResourceUsage",
    "Result",
    "RunEvent",
    "RunPlan",
    "RunSummary",
    "SandboxFacts",
    "Score",
    "Stage",
    "StdioInterface",
    "Suite",
    "TaskExecution",
    "TraceEvent",
    "TraceSpan",
]
