"""A command line whose bootstrap is a recording fake: no engine, no suite of ours, no builds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import runner
from runner.cli import main
from runner.domain import (
    AnswerKey,
    BenchmarkCategory,
    BenchmarkExecution,
    BenchmarkTask,
    CategoryExecution,
    ExactCriterion,
    ExecutionStatus,
    FailureReason,
    LimitOverrides,
    Limits,
    Prompt,
    Suite,
    TaskExecution,
)

NOW = datetime(2026, 3, 14, 9, 26, tzinfo=UTC)


def task(task_id: str, category: BenchmarkCategory) -> BenchmarkTask:
    return BenchmarkTask(
        task_id=task_id,
        category=category,
        name=task_id,
        prompt=Prompt(task_id=task_id, text="What?"),
        answer_key=AnswerKey(criteria=(ExactCriterion(expected="the-secret-answer"),)),
    )


SUITE = Suite(
    name="starter",
    version="1",
    digest="sha256:00",
    tasks=(
        task("reasoning-001", BenchmarkCategory.REASONING),
        task("reasoning-002", BenchmarkCategory.REASONING),
        task("plan-trip", BenchmarkCategory.PLANNING),
    ),
)


def execution(reason: FailureReason | None = None, detail: str = "") -> BenchmarkExecution:
    one = TaskExecution(
        run_id="r1",
        submission_id="s1",
        task_id="reasoning-001",
        category=BenchmarkCategory.REASONING,
        status=ExecutionStatus.FAILED if reason else ExecutionStatus.COMPLETED,
        failure_reason=reason,
        failure_detail=detail,
        output="\x1b]0;owned\x07\u202e",
        started_at=NOW,
        finished_at=NOW + timedelta(seconds=1),
        limits=Limits(),
    )
    category = CategoryExecution(category=one.category, status=one.status, task_executions=(one,))
    return BenchmarkExecution(
        run_id="r1",
        submission_id="s1",
        agent_name="echo",
        agent_version="1.0.0",
        suite_name="starter",
        suite_version="1",
        suite_digest="sha256:00",
        status=ExecutionStatus.COMPLETED,
        seed=1,
        started_at=NOW,
        finished_at=NOW + timedelta(seconds=1),
        category_executions={one.category: category},
    )


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """As the bootstrap's: the names are the contract."""

    target: str | None
    image: str | None
    interface: str | None
    command: tuple[str, ...]
    port: int | None
    suite: str
    categories: tuple[BenchmarkCategory, ...]
    tasks: tuple[str, ...]
    limit: int | None
    parallelism: int
    repeats: int
    seed: int | None
    overrides: LimitOverrides
    token_budget: int | None
    cost_budget_usd: float | None
    output: Path | None


@dataclass
class FakeBootstrap:
    """What the commands call; `answers` are values to return or exceptions to raise."""

    answers: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)

    def answer(self, name: str) -> Callable[..., Any]:
        def call(*positional: Any, **named: Any) -> Any:
            self.calls.append((name, positional, named))
            answer = self.answers[name]
            if isinstance(answer, BaseException):
                raise answer
            return answer(*positional, **named) if callable(answer) else answer

        return call

    @property
    def request(self) -> RunRequest:
        [request] = [call[1][1] for call in self.calls if call[0] in ("run", "prepare_run")]
        return request  # type: ignore[no-any-return]

    @property
    def settings(self) -> Any:
        return self.calls[-1][1][0]


@pytest.fixture
def bootstrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeBootstrap:
    fake = FakeBootstrap()
    fake.answers["catalog"] = SimpleNamespace(load=lambda _name: SUITE, names=lambda: ["starter"])
    fake.answers["run"] = (execution(), tmp_path / "runs/r1")
    module = ModuleType("runner.bootstrap")
    for name in ("set_up", "doctor", "prepare_run", "run", "catalog", "cleanup"):
        setattr(module, name, fake.answer(name))
    module.RunRequest = RunRequest  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "runner.bootstrap", module)
    monkeypatch.setattr(runner, "bootstrap", module, raising=False)
    return fake


@dataclass(frozen=True)
class Outcome:
    """What a shell sees of a command."""

    code: int
    out: str
    err: str


@pytest.fixture
def agenttrace(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    no_agenttrace_environment: None,
) -> Callable[..., Outcome]:
    """Runs one command line in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Outcome:
        code = main(arguments)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call
