"""Nouns as a run makes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from runner.domain import (
    AgentEndpoint,
    AnswerKey,
    Artifact,
    BenchmarkCategory,
    BenchmarkExecution,
    BenchmarkSubmission,
    BenchmarkTask,
    CategoryExecution,
    CriterionScore,
    Ending,
    EndingKind,
    EventKind,
    ExactCriterion,
    ExecutionStatus,
    FunctionInterface,
    Image,
    Limits,
    Measurement,
    Prompt,
    Reply,
    ResourceUsage,
    RunEvent,
    RunPlan,
    SandboxFacts,
    Score,
    Stage,
    Suite,
    TaskExecution,
)

STARTED = datetime(2026, 11, 22, 10, 38, tzinfo=UTC)
RUN_ID = "20261122-103800-1f2e3d"
ANSWER = "canary-7d1c-the-answer"
TOKEN = "s3cr3t-t0ken"
NANOS = int(STARTED.timestamp()) * 1_000_000_000


def task(task_id: str = "reasoning-1") -> BenchmarkTask:
    return BenchmarkTask(
        task_id=task_id,
        category=BenchmarkCategory.REASONING,
        name="A task",
        prompt=Prompt(task_id=task_id, text="What is it?"),
        answer_key=AnswerKey(criteria=(ExactCriterion(expected=ANSWER),)),
    )


def plan(run_id: str = RUN_ID, *tasks: BenchmarkTask) -> RunPlan:
    tasks = tasks or (task(),)
    endpoint = AgentEndpoint(
        endpoint_type="http",
        url=f"https://me:{TOKEN}@agents.example.com/invoke?key={TOKEN}",
        auth_type="bearer",
        auth_credentials={"token": TOKEN},
    )
    return RunPlan(
        run_id=run_id,
        submission=BenchmarkSubmission(
            agent_name="echo", agent_version="1.2.3", agent_endpoint=endpoint
        ),
        suite=Suite(name="starter", version="1.0.0", digest="sha256:ab", tasks=tasks),
        tasks=tasks,
        seed=7,
        limits=Limits(),
        image=Image(
            image_id="sha256:cd",
            reference="echo",
            interface=FunctionInterface(module="agent", function="my_agent"),
        ),
        started_at=STARTED,
        environment={"python_version": "3.11"},
    )


def execution(**changes: Any) -> TaskExecution:
    fields: dict[str, Any] = {
        "run_id": RUN_ID,
        "submission_id": "sub-1",
        "task_id": "reasoning-1",
        "category": BenchmarkCategory.REASONING,
        "status": ExecutionStatus.COMPLETED,
        "input": "What is it?",
        "output": "42",
        "resource_usage": ResourceUsage(execution_time_seconds=0.5, memory_peak_mb=12.0),
        "score": Score(
            raw=1.5,
            maximum=2.0,
            criteria=(
                CriterionScore(name="answer", scorer="exact", weight=1.0, points=1.0),
                CriterionScore(name="form", scorer="regex", weight=1.0, points=0.5, detail="half"),
            ),
        ),
        "started_at": STARTED,
        "finished_at": STARTED + timedelta(seconds=2),
        "limits": Limits(),
        "measurement": Measurement(
            memory_peak_bytes=1000,
            memory_peak_source="cgroup_peak",
            read_from="host_cgroup",
            cgroup_version=1,
        ),
        "sandbox": SandboxFacts(
            container_name="agenttrace-x",
            container_id="ab",
            image_id="sha256:cd",
            engine_version="20.10",
            runtime="runc",
            tier="runc",
            cgroup_version=1,
            applied={"read_only": True, "memory_bytes": 512, "seccomp": "inline"},
        ),
        "artifacts": (Artifact(path="report.txt", size_bytes=2),),
        "stages": (
            Stage(name="create", start_unix_nanos=NANOS, seconds=0.25),
            Stage(name="ask", start_unix_nanos=NANOS + 250_000_000, seconds=0.5),
        ),
    }
    return TaskExecution(**(fields | changes))


def reply(**changes: Any) -> Reply:
    fields: dict[str, Any] = {
        "ending": Ending(kind=EndingKind.ANSWERED),
        "output": "42",
        "stdout": b"\xff\x00raw\x1b[31m",
        "stderr": b"",
    }
    return Reply(**(fields | changes))


def benchmark(*executions: TaskExecution, run_id: str = RUN_ID) -> BenchmarkExecution:
    return BenchmarkExecution(
        run_id=run_id,
        submission_id="sub-1",
        agent_name="echo",
        agent_version="1.2.3",
        suite_name="starter",
        suite_version="1.0.0",
        suite_digest="sha256:ab",
        status=ExecutionStatus.COMPLETED,
        seed=7,
        started_at=STARTED,
        finished_at=STARTED + timedelta(seconds=3),
        category_executions={
            BenchmarkCategory.REASONING: CategoryExecution(
                category=BenchmarkCategory.REASONING,
                status=ExecutionStatus.COMPLETED,
                task_executions=executions or (execution(),),
            )
        },
    )


def event(kind: EventKind, **changes: Any) -> RunEvent:
    return RunEvent(**({"kind": kind, "at": STARTED, "run_id": RUN_ID} | changes))
