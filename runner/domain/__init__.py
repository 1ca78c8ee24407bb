"""The nouns: frozen, pure, no I/O."""

from __future__ import annotations

from runner.domain.attempt import (
    Artifact,
    Attempt,
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
    LimitOverrides,
    Limits,
    MIB,
)
from runner.domain.run import (
    EventKind,
    RunEvent,
    RunPlan,
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

__all__ = [
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
    "MIB",
    "Measurement",
    "NumericCriterion",
    "Prompt",
    "RegexCriterion",
    "Reply",
    "ResourceUsage",
    "RunEvent",
    "RunPlan",
    "SandboxFacts",
    "Score",
    "Stage",
    "StdioInterface",
    "Suite",
    "TaskExecution",
]
