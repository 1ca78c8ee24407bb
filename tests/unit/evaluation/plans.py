"""Small plans and executors on fakes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from runner.domain import (
    AgentEndpoint,
    AnswerKey,
    BenchmarkCategory,
    BenchmarkSubmission,
    BenchmarkTask,
    CriterionScore,
    ExactCriterion,
    LimitOverrides,
    Limits,
    Prompt,
    RunEvent,
    RunPlan,
    Score,
    Suite,
)
from runner.evaluation import Admission, Executor, RetryPolicy, SandboxedAgent, StopSignal
from runner.evaluation.admission import HostCapacity
from runner.evaluation.unguarded import AlwaysOpen
from runner.evaluation.usage import CountTokens
from runner.ports import Evidence, Gate, Gateway, Sandbox
from runner.testing import FAKE_IMAGE, FakeAgent, FakeSandbox, FakeTransport

GIB = 1024**3
CATEGORIES = list(BenchmarkCategory)


def task(name: str, number: int = 0, **limits: Any) -> BenchmarkTask:
    return BenchmarkTask(
        task_id=name,
        category=CATEGORIES[number % len(CATEGORIES)],
        name=name,
        prompt=Prompt(task_id=name, text=f"what is {name}?", tools=("search",)),
        answer_key=AnswerKey(criteria=(ExactCriterion(expected=name),)),
        limits=LimitOverrides(**limits),
    )


def plan(names: str = "abc", *, repeats: int = 1, parallelism: int = 1, **more: Any) -> RunPlan:
    tasks = tuple(task(name, number) for number, name in enumerate(names))
    values: dict[str, Any] = {
        "run_id": "run-1",
        "submission": BenchmarkSubmission(
            agent_name="a",
            agent_version="1.0.0",
            agent_endpoint=AgentEndpoint(endpoint_type="container", image="x"),
        ),
        "suite": Suite(name="s", version="1", digest="sha256:0", tasks=tasks),
        "tasks": tasks,
        "repeats": repeats,
        "parallelism": parallelism,
        "seed": 7,
        "limits": Limits(time_seconds=30),
        "image": FAKE_IMAGE,
        "started_at": datetime.now(UTC),
    }
    return RunPlan(**(values | more))


class EqualScorer:
    """Implements ports.Scorer: the answer is the expected text, or nothing."""

    def score(self, answer: str, key: AnswerKey) -> Score:
        (criterion,) = key.criteria
        points = 1.0 if answer == criterion.expected else 0.0
        part = CriterionScore(name="answer", scorer="exact", weight=1.0, points=points)
        return Score(raw=points, maximum=1.0, criteria=(part,))


def executor(
    evidence: Evidence,
    agent: FakeAgent,
    *,
    sandbox: Sandbox | None = None,
    stop: StopSignal | None = None,
    notify: Callable[[RunEvent], None] = lambda _event: None,
    retry: RetryPolicy | None = None,
    given: RunPlan | None = None,
    cpus: float = 64,
    gate: Gate | None = None,
    gateway: Gateway | None = None,
    count_tokens: CountTokens | None = None,
) -> Executor:
    capacity = HostCapacity(
        cpus=cpus,
        memory_bytes=64 * GIB,
        evidence_directory=evidence.root,
        local=False,  # type: ignore[attr-defined]
    )
    return Executor(
        plan=given or plan(),
        agent=SandboxedAgent(
            image=FAKE_IMAGE, sandbox=sandbox or FakeSandbox(), transport=FakeTransport(agent)
        ),
        scorer=EqualScorer(),
        evidence=evidence,
        admission=Admission(capacity),
        gate=gate or AlwaysOpen(),
        retry=retry or RetryPolicy(delays_seconds=()),
        notify=notify,
        stop=stop or StopSignal(),
        judged=evidence.judged(),
        gateway=gateway,
        count_tokens=count_tokens,
    )


def named(prompt: Prompt, _config: object) -> str:
    """The right answer to every task."""
    return prompt.task_id
