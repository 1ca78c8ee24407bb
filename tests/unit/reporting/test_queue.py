from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console

from runner.domain import (
    AgentEndpoint,
    BenchmarkSubmission,
    Breaker,
    BreakerState,
    BreakerStatus,
    EventKind,
    ExecutionProgress,
    Job,
    JobState,
    NumberedEvent,
    QueueStatus,
    QuotaEntry,
    QuotaState,
    QuotaUse,
    RefundReason,
    RunEvent,
    SubmissionQuota,
    WorkerStatus,
)
from runner.reporting import (
    render_breakers,
    render_changed,
    render_job,
    render_queue,
    render_quota,
)

NOW = datetime(2026, 3, 14, 9, 26, 0, tzinfo=UTC)
HOSTILE = "[red]x[/red] \x1b[2J\u202e"
QUOTA = SubmissionQuota()


def job(run_id: str = "r1", *, hostile: str = "", **fields: Any) -> Job:
    submission = BenchmarkSubmission(
        agent_name=f"echo{hostile}",
        agent_version=f"1.0.0{hostile}",
        submitted_by=f"team{hostile}",
        agent_endpoint=AgentEndpoint(endpoint_type="container", image="x"),
    )
    return Job(
        **(
            {
                "run_id": run_id,
                "submission": submission,
                "submitted_at": NOW - timedelta(minutes=5),
                "note": hostile,
                "worker": hostile,
            }
            | fields
        )
    )


def running(run_id: str = "r1", **fields: Any) -> Job:
    began = {"first_claimed_at": NOW - timedelta(minutes=1), "claims": 1}
    return job(run_id, state=JobState.RUNNING, **(began | fields))


def worker(**fields: Any) -> WorkerStatus:
    values = {
        "worker": "w1",
        "host": "h1",
        "started_at": NOW - timedelta(hours=2),
        "seen_at": NOW - timedelta(seconds=3),
        "slots": 3,
        "running": ("r1",),
    }
    return WorkerStatus(**(values | fields))


def breaker(state: BreakerState = BreakerState.OPEN, reason: str = "timed out") -> BreakerStatus:
    return BreakerStatus(
        name="endpoint https://example.com",
        breaker=Breaker(state=state, failures=5, last_failure=reason),
        retry_at=NOW + timedelta(minutes=5) if state is BreakerState.OPEN else None,
    )


PROGRESS = ExecutionProgress(
    run_id="r1",
    total_tasks=51,
    completed_tasks=10,
    failed_tasks=2,
    current_task=f"t1{HOSTILE}",
    started_at=NOW,
    updated_at=NOW,
    estimated_completion=NOW + timedelta(hours=1),
)


def shown(render: Callable[..., None], *arguments: Any, **named: Any) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=160, force_terminal=False)
    if render is render_changed:
        render(*arguments, console)
    elif render is render_job:
        render(arguments[0], console, NOW, **named)
    else:
        render(*arguments, console, NOW)
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "\u202e" not in text
    return "\n".join(line.rstrip() for line in text.splitlines())


def row(text: str, start: str) -> list[str]:
    [line] = [line for line in text.splitlines() if line.startswith(start)]
    return line.split()


# -- the queue -----------------------------------------------------------------------------------


def test_the_queue_at_a_glance() -> None:
    status = QueueStatus(
        queue_size=25,
        active_executions=1,
        finished=7,
        failed=1,
        jobs=(running(), job("r2", priority=5, note="is next")),
        workers=(worker(), worker(worker="w2", draining=True)),
        circuit_breakers=(breaker(), breaker(BreakerState.CLOSED, "long ago")),
        progress={"r1": PROGRESS},
    )
    text = shown(render_queue, status)
    assert text.startswith("1 running, 25 waiting; 7 finished, 1 failed, 0 cancelled\n")
    assert row(text, "r1")[:7] == ["r1", "running", "12/51", "1:00", "echo", "1.0.0", "team"]
    assert "until about 10:26:00 UTC" in text
    assert row(text, "r2")[:4] == ["r2", "queued", "-", "5:00"]
    assert "priority +5; is next" in text
    assert "and 24 more" in text
    assert row(text, "w1") == ["w1", "1/3", "2:00:00", "0:03", "ago", "working"]
    assert row(text, "w2")[-1] == "draining"
    assert row(text, "endpoint")[2:] == ["open", "5", "09:31:00", "UTC", "timed", "out"]
    assert "long ago" not in text
    assert "No worker" not in text


def test_an_empty_queue() -> None:
    text = shown(render_queue, QueueStatus(queue_size=0, active_executions=0))
    assert text == "Nothing runs and nothing waits; 0 finished, 0 failed, 0 cancelled"


def test_nobody_works() -> None:
    text = shown(render_queue, QueueStatus(queue_size=1, active_executions=0, jobs=(job(),)))
    assert "No worker runs: `agenttrace worker` starts one." in text


def test_a_job_that_may_not_begin_yet() -> None:
    postponed = job(not_before=NOW + timedelta(minutes=5), note="endpoint is not reachable")
    status = QueueStatus(queue_size=1, active_executions=0, jobs=(postponed,))
    assert "not before 09:31:00 UTC; endpoint is not reachable" in shown(render_queue, status)


def test_hostile_text_is_inert_everywhere() -> None:
    status = QueueStatus(
        queue_size=1,
        active_executions=1,
        jobs=(running(hostile=HOSTILE), job(hostile=HOSTILE)),
        workers=(worker(worker=HOSTILE),),
        circuit_breakers=(breaker(reason=HOSTILE),),
        progress={"r1": PROGRESS},
    )
    assert "\\x1b[2J\\u202e" in shown(render_queue, status)
    event = RunEvent(
        kind=EventKind.CLAIMED, at=NOW, run_id=HOSTILE, task_id=HOSTILE, data={"worker": HOSTILE}
    )
    text = shown(
        render_job,
        running(hostile=HOSTILE),
        progress=PROGRESS,
        events=[NumberedEvent(number=1, event=event)],
    )
    assert "[red]x[/red]" in text
    use = QuotaUse(submitter=HOSTILE, day=1, week=1)
    entry = QuotaEntry(run_id="r1", submitter=HOSTILE, state=QuotaState.RESERVED, reserved_at=NOW)
    assert "[red]x[/red]" in shown(render_quota, QUOTA, [use], [entry])
    assert "[red]x[/red]" in shown(render_breakers, [breaker(reason=HOSTILE)])


# -- one job -------------------------------------------------------------------------------------


def test_a_waiting_job() -> None:
    entry = QuotaEntry(run_id="r1", submitter="team", state=QuotaState.RESERVED, reserved_at=NOW)
    text = shown(render_job, job(), place=2, entry=entry)
    assert row(text, "state") == ["state", "queued,", "number", "2", "in", "the", "queue"]
    assert row(text, "quota") == ["quota", "reserved"]
    assert row(text, "submitted ")[1:] == ["09:21:00", "UTC,", "5:00", "ago"]
    assert "worker" not in text
    assert "tasks" not in text


def test_a_running_job() -> None:
    claimed = RunEvent(kind=EventKind.CLAIMED, at=NOW, run_id="r1", data={"worker": "w1"})
    text = shown(
        render_job,
        running(worker="w1", cancel_requested=True),
        progress=PROGRESS,
        events=[NumberedEvent(number=1, event=claimed)],
    )
    assert row(text, "state") == ["state", "stopping"]
    assert row(text, "tasks") == ["tasks", "12/51", "ended,", "2", "of", "them", "failed"]
    assert row(text, "until")[2:] == ["10:26:00", "UTC"]
    assert "1  2026-03-14 09:26:00  run r1: a worker has it (w1)" in text


def test_an_ended_job() -> None:
    entry = QuotaEntry(
        run_id="r1",
        submitter="team",
        state=QuotaState.REFUNDED,
        reserved_at=NOW,
        refund_reason=RefundReason.INFRASTRUCTURE_FAILED,
    )
    ended = job(state=JobState.FAILED, note="3 workers were lost", finished_at=NOW)
    text = shown(render_job, ended, entry=entry)
    assert row(text, "quota")[1:] == ["refunded", "(infrastructure_failed)"]
    assert row(text, "ended")[1:] == ["09:26:00", "UTC"]
    assert row(text, "note")[1:] == ["3", "workers", "were", "lost"]


def test_what_became_of_jobs() -> None:
    jobs = [job(state=JobState.CANCELLED), running("r2", cancel_requested=True), job("r3")]
    assert shown(render_changed, jobs) == "r1: cancelled\nr2: is asked to stop\nr3: queued"


# -- quotas and breakers -------------------------------------------------------------------------


def test_quotas() -> None:
    full = QuotaUse(submitter="full", day=5, week=9, next_free_at=NOW + timedelta(hours=20))
    free = QuotaUse(submitter="free", day=1, week=1)
    text = shown(render_quota, QUOTA, [full, free], [])
    assert " ".join(row(text, "full")) == "full 5 of 5 9 of 20 2026-03-15 05:26:00 UTC"
    assert " ".join(row(text, "free")) == "free 1 of 5 1 of 20 now"
    assert shown(render_quota, QUOTA, [], []) == "Nobody has submitted anything."


def test_breakers() -> None:
    assert "half open" in shown(render_breakers, [breaker(BreakerState.HALF_OPEN)])
    assert shown(render_breakers, []).startswith("All circuit breakers are closed")
