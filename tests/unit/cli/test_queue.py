"""`agenttrace queue`: options become one question, its answer becomes lines or JSON."""

from __future__ import annotations

import inspect
import io
import json
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from runner.bootstrap.queueing import JobStanding, QuotaReport
from runner.cli import queue as command
from runner.domain import (
    Breaker,
    BreakerState,
    BreakerStatus,
    EventKind,
    ExecutionProgress,
    JobState,
    NumberedEvent,
    QueueStatus,
    QuotaUse,
    RunEvent,
    SubmissionQuota,
    WorkerStatus,
)
from runner.errors import StoreUnavailable, UsageError

from .conftest import NOW, FakeBootstrap, Outcome
from .queued import QUESTIONS, install, job, status

Agenttrace = Callable[..., Outcome]
ANY = object()
STANDING = JobStanding(job=job(), place=1, progress=ExecutionProgress(run_id="r1", total_tasks=0))
EVENTS = (NumberedEvent(number=1, event=RunEvent(kind=EventKind.SUBMITTED, at=NOW, run_id="r1")),)


@pytest.fixture(autouse=True)
def queueing(bootstrap: FakeBootstrap) -> FakeBootstrap:
    install(bootstrap)
    return bootstrap


@pytest.mark.parametrize(
    ("name", "positional"),
    [
        ("queue_status", [ANY, ANY]),
        ("job", [ANY, ANY]),
        ("job_if_any", [ANY, ANY]),
        ("job_events", [ANY, ANY]),
        ("cancel", [ANY, ANY]),
        ("retry", [ANY, ANY]),
        ("quota", [ANY, ANY]),
        ("breakers", [ANY]),
    ],
)
def test_the_fake_has_the_shape_of_the_real_thing(name: str, positional: list[object]) -> None:
    real = sys.modules["runner.bootstrap.queueing"]
    inspect.signature(getattr(real, name)).bind(*positional)
    assert name in QUESTIONS


@pytest.mark.parametrize("words", ["queue", "queue status"])
def test_the_queue(agenttrace: Agenttrace, queueing: FakeBootstrap, words: str) -> None:
    queueing.answers["queue_status"] = status(job())
    shown = agenttrace(*words.split(), "--limit", "7", "--profile", "competition")
    assert shown.code == 0, shown.err
    assert "0 running, 1 waiting" in shown.out
    assert "echo\\x1b[2J" in shown.out
    [(_, (settings, limit), _)] = queueing.calls
    assert (settings.profile, limit) == ("competition", 7)


def test_the_queue_as_data(agenttrace: Agenttrace, queueing: FakeBootstrap) -> None:
    progress = ExecutionProgress(run_id="r1", total_tasks=3)
    queueing.answers["queue_status"] = status(job(), progress={"r1": progress})
    shown = agenttrace("queue", "--json")
    data = json.loads(shown.out)
    assert data["queue_size"] == 1
    assert data["jobs"][0]["state"] == "queued"
    assert data["progress"]["r1"]["total_tasks"] == 3
    assert "\x1b" not in shown.out


def test_no_store(agenttrace: Agenttrace, queueing: FakeBootstrap) -> None:
    queueing.answers["queue_status"] = StoreUnavailable("it is locked", remedy="wait")
    assert agenttrace("queue").code == 3


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("queue --watch --json", "either --watch or --json"),
        ("queue --json show r1", "options of 'show' go after its name"),
        ("queue --profile laptop cancel r1", "options of 'cancel' go after its name"),
        ("queue cancel", "RUN"),
        ("queue --limit -1", "--limit"),
        ("queue nonsense", "nonsense"),
    ],
)
def test_what_cannot_be(
    agenttrace: Agenttrace, queueing: FakeBootstrap, line: str, complaint: str
) -> None:
    shown = agenttrace(*line.split())
    assert shown.code == 2
    assert complaint in shown.err
    assert not queueing.calls


# -- watching ------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def watching(queueing: FakeBootstrap, monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
    """Each look at the queue gets the next answer; after the last one comes Ctrl-C."""
    waiting = iter([*answers, KeyboardInterrupt()])

    def answer(*_: Any) -> Any:
        found = next(waiting)
        if isinstance(found, BaseException):
            raise found
        return found

    queueing.answers["queue_status"] = answer
    monkeypatch.setattr(command, "REFRESH_SECONDS", 0)


def test_watching_without_a_terminal_prints_what_has_changed(
    agenttrace: Agenttrace, queueing: FakeBootstrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    def running(now: int) -> QueueStatus:
        at = NOW + timedelta(seconds=now)
        estimated = ExecutionProgress(run_id="r1", total_tasks=3, estimated_completion=at)
        beating = WorkerStatus(worker="w", host="h", started_at=NOW, seen_at=at, slots=1)
        progress = {"r1": estimated}
        return status(job(state=JobState.RUNNING), progress=progress, workers=(beating,))

    watching(queueing, monkeypatch, status(job()), status(job()), running(1), running(2))
    shown = agenttrace("queue", "--watch")
    assert shown.code == 130
    assert shown.out.count("0 running, 1 waiting") == 1
    assert shown.out.count("1 running, 0 waiting") == 1
    assert "\x1b" not in shown.out


def test_watching_on_a_terminal(
    agenttrace: Agenttrace, queueing: FakeBootstrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    watching(queueing, monkeypatch, status(job()), status(job(state=JobState.RUNNING)))
    assert agenttrace("queue", "--watch").code == 130
    drawn = terminal.getvalue()
    assert "0 running, 1 waiting" in drawn
    assert "1 running, 0 waiting" in drawn
    assert "\x1b[2J" not in drawn
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l"), "the cursor is back"


# -- one job -------------------------------------------------------------------------------------


def test_one_job(agenttrace: Agenttrace, queueing: FakeBootstrap) -> None:
    queueing.answers |= {"job": STANDING, "job_events": EVENTS}
    shown = agenttrace("queue", "show", "r")
    assert shown.code == 0, shown.err
    assert "queued, number 1 in the queue" in shown.out
    assert "run r1: waits in the queue" in shown.out
    assert [call[1][1] for call in queueing.calls] == ["r", "r1"]
    data = json.loads(agenttrace("queue", "show", "r", "--json").out)
    assert (data["job"]["run_id"], data["place"]) == ("r1", 1)
    assert data["events"][0]["event"]["kind"] == "submitted"


def test_no_such_job(agenttrace: Agenttrace, queueing: FakeBootstrap) -> None:
    queueing.answers["job"] = UsageError("there is no job 'x' in the queue")
    assert agenttrace("queue", "show", "x").code == 2


@pytest.mark.parametrize(
    ("verb", "state", "said"),
    [("cancel", JobState.CANCELLED, "r1: cancelled"), ("retry", JobState.QUEUED, "r1: queued")],
)
def test_changing_jobs(
    agenttrace: Agenttrace, queueing: FakeBootstrap, verb: str, state: JobState, said: str
) -> None:
    running = job("r2", JobState.RUNNING, cancel_requested=True)
    queueing.answers[verb] = (job(state=state), running)
    shown = agenttrace("queue", verb, "r1", "r2")
    assert shown.code == 0, shown.err
    assert shown.out == f"{said}\nr2: is asked to stop\n"
    assert queueing.calls[0][1][1] == ("r1", "r2")
    data = json.loads(agenttrace("queue", verb, "r1", "--json").out)
    assert [each["run_id"] for each in data] == ["r1", "r2"]


# -- quotas and breakers -------------------------------------------------------------------------


def test_quota(agenttrace: Agenttrace, queueing: FakeBootstrap) -> None:
    use = QuotaUse(submitter="team", day=2, week=3)
    queueing.answers["quota"] = QuotaReport(quota=SubmissionQuota(), uses=(use,), entries=())
    assert "2 of 5" in agenttrace("queue", "quota").out
    assert json.loads(agenttrace("queue", "quota", "team", "--json").out)["uses"][0]["week"] == 3
    assert [call[1][1] for call in queueing.calls] == [None, "team"]


def test_breakers(agenttrace: Agenttrace, queueing: FakeBootstrap) -> None:
    opened = Breaker(state=BreakerState.OPEN, failures=5, last_failure="timed out")
    queueing.answers["breakers"] = (BreakerStatus(name="engine x", breaker=opened),)
    assert "timed out" in agenttrace("queue", "breakers").out
    data = json.loads(agenttrace("queue", "breakers", "--json").out)
    assert data[0]["breaker"]["state"] == "open"
