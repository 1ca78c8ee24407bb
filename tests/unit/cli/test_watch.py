"""`agenttrace runs watch`: from another process, without touching the run."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.cli import watch
from runner.domain import EventKind, JobState, RunEvent
from runner.errors import StoreUnavailable, UsageError
from runner.records import RunDirectory
from tests.unit.records.nouns import RUN_ID, event, plan

from .conftest import FakeBootstrap, Outcome
from .queued import install, job, standing

Agenttrace = Callable[..., Outcome]
STARTED = event(EventKind.RUN_STARTED, data={"total": 1})
TASK = event(EventKind.TASK_FINISHED, task_id="t1\x1b[2J", data={"status": "completed"})
ENDED = event(EventKind.RUN_FINISHED, data={"status": "completed"})


@pytest.fixture(autouse=True)
def queueing(bootstrap: FakeBootstrap, monkeypatch: pytest.MonkeyPatch) -> FakeBootstrap:
    install(bootstrap)
    bootstrap.answers["job_if_any"] = None
    monkeypatch.setattr(watch, "POLL_SECONDS", 0)
    monkeypatch.setattr(watch, "ASK_SECONDS", 0)
    return bootstrap


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[RunDirectory]:
    """Of a run that is under way, where the commands look for runs."""
    run = RunDirectory(tmp_path / "runs", RUN_ID)
    yield run
    run.close()


def record(directory: RunDirectory, *events: RunEvent) -> None:
    for each in events:
        directory.event(each)


def begun(directory: RunDirectory, *events: RunEvent) -> None:
    directory.begin(plan())
    record(directory, *events)


def looks(queueing: FakeBootstrap, *steps: Any) -> None:
    """Each look at the queue does the next step, and sees the job that it returns."""
    waiting, seen = list(steps), []

    def answer(*_: Any) -> Any:
        step = waiting.pop(0) if waiting else seen[-1]
        found = step() if callable(step) else step
        seen.append(found)
        return found

    queueing.answers["job_if_any"] = answer


def test_a_whole_run_in_lines(agenttrace: Agenttrace, directory: RunDirectory) -> None:
    begun(directory, STARTED, TASK, ENDED)
    shown = agenttrace("runs", "watch", RUN_ID[:8])
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.splitlines() == [
        f"run {RUN_ID}: 1 tasks",
        "[1/1] t1\\x1b[2J: completed",
        f"run {RUN_ID}: completed",
    ]


def test_a_whole_run_as_data(agenttrace: Agenttrace, directory: RunDirectory) -> None:
    begun(directory, STARTED, TASK, ENDED)
    shown = agenttrace("runs", "watch", RUN_ID, "--json")
    assert shown.code == 0
    events = [RunEvent.model_validate(json.loads(line)) for line in shown.out.splitlines()]
    assert events == [STARTED, TASK, ENDED]
    assert "\x1b" not in shown.out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal(
    agenttrace: Agenttrace, directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    begun(directory, STARTED, TASK, ENDED)
    assert agenttrace("runs", "watch", RUN_ID).code == 0
    drawn = terminal.getvalue()
    assert "1/1" in drawn
    assert drawn.endswith(f"run {RUN_ID}: completed\n"), "what stays when the display is gone"
    assert "\x1b[2J" not in drawn


def test_elsewhere(agenttrace: Agenttrace, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "elsewhere", RUN_ID)
    begun(directory, ENDED)
    directory.close()
    assert agenttrace("runs", "watch", RUN_ID, "-o", "elsewhere").code == 0


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_runner_that_died(
    agenttrace: Agenttrace, directory: RunDirectory, options: list[str]
) -> None:
    begun(directory, STARTED)
    directory.close()
    shown = agenttrace("runs", "watch", RUN_ID, *options)
    assert shown.code == 3
    assert "ended before the run did" in shown.err
    assert f"next: `agenttrace resume {RUN_ID}` goes on with it" in shown.err


def test_ctrl_c_leaves_the_run_alone(
    agenttrace: Agenttrace, directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(directory, STARTED)
    before = (directory.path / "events.jsonl").read_bytes()

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("runner.records.follow.time.sleep", interrupted)
    assert agenttrace("runs", "watch", RUN_ID).code == 130
    assert (directory.path / "events.jsonl").read_bytes() == before
    directory.event(ENDED)


def test_no_such_run(agenttrace: Agenttrace) -> None:
    shown = agenttrace("runs", "watch", "no-such")
    assert shown.code == 2
    assert "there is no run 'no-such'" in shown.err


def test_a_database_that_does_not_answer_hides_no_run(
    agenttrace: Agenttrace, directory: RunDirectory, queueing: FakeBootstrap
) -> None:
    queueing.answers["job_if_any"] = StoreUnavailable("no answer")
    begun(directory, ENDED)
    assert agenttrace("runs", "watch", RUN_ID).code == 0
    assert agenttrace("runs", "watch", "another").code == 3


# -- of the queue --------------------------------------------------------------------------------


def test_a_queued_run_is_waited_for(
    agenttrace: Agenttrace, directory: RunDirectory, queueing: FakeBootstrap
) -> None:
    running = standing(job(RUN_ID, JobState.RUNNING))

    def begin() -> Any:
        begun(directory, STARTED)
        return running

    def end() -> Any:
        record(directory, ENDED)
        return running

    looks(
        queueing,
        standing(job(RUN_ID), place=2),
        standing(job(RUN_ID, note="endpoint \x1b is not reachable"), place=1),
        standing(job(RUN_ID, note="endpoint \x1b is not reachable"), place=1),
        begin,
        end,
        standing(job(RUN_ID, JobState.FINISHED)),
    )
    shown = agenttrace("runs", "watch", RUN_ID[:8])
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.splitlines() == [
        f"run {RUN_ID} waits, number 1 in the queue: endpoint \\x1b is not reachable",
        "a worker has it",
        f"run {RUN_ID}: 1 tasks",
        f"run {RUN_ID}: completed",
    ]


def test_a_worker_that_is_lost_is_replaced(
    agenttrace: Agenttrace, directory: RunDirectory, queueing: FakeBootstrap
) -> None:
    running = standing(job(RUN_ID, JobState.RUNNING))
    begun(directory, STARTED)
    directory.close()

    def go_on() -> Any:
        record(directory, event(EventKind.RUN_RESUMED, data={"total": 1, "finished": 1}), ENDED)
        return running

    finished = standing(job(RUN_ID, JobState.FINISHED))
    looks(queueing, *[running] * 10, go_on, running, finished)
    shown = agenttrace("runs", "watch", RUN_ID)
    assert shown.code == 0, shown.err
    assert f"run {RUN_ID} goes on: 1 of 1 tasks were judged before" in shown.out


def test_a_job_that_is_cancelled_before_it_begins(
    agenttrace: Agenttrace, queueing: FakeBootstrap
) -> None:
    ended = standing(job("r1", JobState.CANCELLED, note="cancelled by an operator"))
    looks(queueing, standing(job("r1"), place=1), ended)
    shown = agenttrace("runs", "watch", "r1")
    assert shown.code == 0
    assert shown.out.splitlines()[-1] == "run r1: cancelled: cancelled by an operator"


def test_a_job_that_fails(agenttrace: Agenttrace, queueing: FakeBootstrap) -> None:
    ended = standing(job("r1", JobState.FAILED, note="3 workers were lost"))
    looks(queueing, standing(job("r1")), ended)
    shown = agenttrace("runs", "watch", "r1")
    assert shown.code == 3
    assert "error: run r1 has failed: 3 workers were lost" in shown.err
    assert "`agenttrace queue retry r1`" in shown.err


def test_several_jobs_fit(agenttrace: Agenttrace, queueing: FakeBootstrap) -> None:
    queueing.answers["job_if_any"] = UsageError("2 jobs start with 'r'")
    assert agenttrace("runs", "watch", "r").code == 2
