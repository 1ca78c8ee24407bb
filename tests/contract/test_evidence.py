"""What ports.Evidence promises, kept in memory and on disk alike."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.domain import (
    BenchmarkExecution,
    Ending,
    EndingKind,
    EventKind,
    ExecutionStatus,
    Limits,
    Reply,
    RunEvent,
    TaskExecution,
)
from runner.ports import Evidence
from runner.records import RunDirectory
from runner.testing import MemoryEvidence
from tests.unit.evaluation.plans import plan

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REPLY = Reply(ending=Ending(kind=EndingKind.ANSWERED), output="a", stdout=b"a")


@pytest.fixture(params=["memory", "directory"])
def evidence(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Evidence]:
    if request.param == "memory":
        with MemoryEvidence() as memory:
            yield memory
        return
    directory = RunDirectory(tmp_path, "run-1")
    yield directory
    directory.close()


def execution(attempt: int = 1) -> TaskExecution:
    return TaskExecution(
        run_id="run-1",
        submission_id="s",
        task_id="a",
        category=plan().tasks[0].category,
        attempt=attempt,
        status=ExecutionStatus.COMPLETED,
        started_at=NOW,
        finished_at=NOW,
        limits=Limits(),
    )


def test_a_run_from_begin_to_finish(evidence: Evidence) -> None:
    given = plan("a")
    assert evidence.begin(given).is_dir()
    evidence.event(RunEvent(kind=EventKind.RUN_STARTED, at=NOW, run_id="run-1"))
    for attempt in (1, 2):
        staging = evidence.staging()
        assert staging.is_dir()
        assert not list(staging.iterdir())
        (staging / "artifact").write_bytes(b"x")
        evidence.keep(execution(attempt), REPLY if attempt == 2 else None, staging)
    evidence.finish(
        BenchmarkExecution(
            run_id="run-1",
            submission_id="s",
            agent_name="a",
            agent_version="1",
            suite_name="s",
            suite_version="1",
            suite_digest="sha256:0",
            status=ExecutionStatus.COMPLETED,
            seed=1,
            started_at=NOW,
            finished_at=NOW,
            category_executions={},
        )
    )
    evidence.event(RunEvent(kind=EventKind.RUN_FINISHED, at=NOW, run_id="run-1"))


def test_staging_directories_are_apart(evidence: Evidence) -> None:
    evidence.begin(plan("a"))
    assert evidence.staging() != evidence.staging()
