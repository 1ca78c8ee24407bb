from __future__ import annotations

import io
import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from runner.domain import EventKind, RunEvent
from runner.reporting import LiveProgress, PlainProgress, QuietProgress, progress_for
from tests.unit.records.nouns import RUN_ID, STARTED, event

HOSTILE = "\x1b[2J[red]x[/red]"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def a_run() -> list[RunEvent]:
    first: dict[str, Any] = {"task_id": "t1", "repeat": 1, "attempt": 1}
    second: dict[str, Any] = {"task_id": "t2", "repeat": 2, "attempt": 1}
    ended = {"status": "timeout", "failure_reason": "agent_timeout", "score": 0.0, "seconds": 1.5}
    again = first | {"attempt": 2}
    events = [
        event(EventKind.RUN_STARTED, data={"total": 2}),
        event(EventKind.TASK_STARTED, **first),
        event(EventKind.TASK_RETRIED, **first, data={"reason": HOSTILE}),
        event(EventKind.TASK_STARTED, **again),
        event(EventKind.TASK_FINISHED, **again, data={"status": "completed", "score": 100.0}),
        event(EventKind.TASK_STARTED, **second),
        event(EventKind.RUN_DRAINING),
        event(EventKind.TASK_FINISHED, **second, data=ended),
        event(EventKind.RUN_FINISHED, data={"status": "cancelled"}),
    ]
    return [each.model_copy(update={"at": at(number)}) for number, each in enumerate(events)]


def at(seconds: float) -> datetime:
    return STARTED + timedelta(seconds=seconds)


def test_plain_lines() -> None:
    stream = io.StringIO()
    with PlainProgress(stream) as progress:
        progress.say(f"building {HOSTILE}")
        for each in a_run():
            progress.notify(each)
    assert stream.getvalue().splitlines() == [
        "building \\x1b[2J[red]x[/red]",
        "run 20261122-103800-1f2e3d: 2 tasks",
        "t1: started",
        "t1: tried again: \\x1b[2J[red]x[/red]",
        "t1: started",
        "[1/2] t1: completed, score 100.0",
        "t2 #2: started",
        "stopping: what runs may finish; interrupt again to stop it now",
        "[2/2] t2 #2: agent_timeout, score 0.0, 1.50 s",
        "run 20261122-103800-1f2e3d: cancelled",
    ]


def test_a_closed_stream_does_not_stop_a_run() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream)
    stream.close()
    progress.notify(a_run()[0])


def live(now: float = 4) -> tuple[LiveProgress, Console]:
    console = Console(file=Terminal(), width=80, force_terminal=True, color_system=None)
    return LiveProgress(console, clock=lambda: at(now)), console


def frame(progress: LiveProgress, console: Console) -> str:
    with console.capture() as captured:
        console.print(progress._render())
    return captured.get()


def test_the_live_display_follows_the_run() -> None:
    progress, console = live()
    events = a_run()
    for each in events[:4]:
        progress.notify(each)
    text = frame(progress, console)
    assert "0/2 tasks" in text
    assert "0:01  t1" in text
    assert "tasks 0:04" in text, "it began before the display did"
    assert "\\x1b[2J[red]x[/red]" in text
    for each in events[4:6]:
        progress.notify(each)
    text = frame(progress, console)
    assert "1/2 tasks" in text
    assert "t2 #2" in text
    assert "✔ solved  t1  100.0" in text
    for each in events[6:]:
        progress.notify(each)
    assert "2/2 tasks" in frame(progress, console)
    assert "◷ agent_timeout  t2 #2  0.0  1.50 s" in frame(progress, console)


def test_a_run_that_waits_and_goes_on() -> None:
    until = {"until": "2026-11-22T12:30:05+00:00", "reason": f"endpoint https://x {HOSTILE}"}
    events = [
        event(EventKind.SUBMITTED),
        event(EventKind.CLAIMED, data={"worker": f"w1{HOSTILE}", "token": 1}),
        event(EventKind.RUN_POSTPONED, data=until),
        event(EventKind.RUN_RESUMED, data={"total": 51, "finished": 12}),
    ]
    said = [
        "run 20261122-103800-1f2e3d: waits in the queue",
        "run 20261122-103800-1f2e3d: a worker has it (w1\\x1b[2J[red]x[/red])",
        f"run {RUN_ID} waits until 12:30:05 UTC: endpoint https://x \\x1b[2J[red]x[/red]",
        "run 20261122-103800-1f2e3d goes on: 12 of 51 tasks were judged before",
    ]
    stream = io.StringIO()
    plain = PlainProgress(stream)
    progress, _ = live()
    console = Console(file=Terminal(), width=120, force_terminal=True, color_system=None)
    for each, line in zip(events, said, strict=True):
        plain.notify(each)
        progress.notify(each)
        assert line in frame(progress, console)
    assert stream.getvalue().splitlines() == said
    assert "12/51 tasks" in frame(progress, console)


def test_how_long_it_will_take() -> None:
    progress, console = live(now=14)
    for each in (
        event(EventKind.RUN_STARTED, data={"total": 3}),
        event(EventKind.TASK_STARTED, task_id="t1"),
        event(EventKind.TASK_FINISHED, task_id="t1", at=at(10)),
        event(EventKind.TASK_STARTED, task_id="t2", at=at(10)),
    ):
        progress.notify(each)
    assert "1/3 tasks 0:14, about 0:16 left" in frame(progress, console)


def test_many_running_tasks_do_not_fill_the_screen() -> None:
    progress, console = live()
    for number in range(50):
        progress.notify(event(EventKind.TASK_STARTED, task_id=f"t{number}", repeat=1))
    text = frame(progress, console)
    assert "and 42 more" in text
    assert len(text.splitlines()) < 15


def test_the_live_display_takes_events_from_any_thread() -> None:
    progress, console = live()

    def work(worker: int) -> None:
        for number in range(50):
            each = {"task_id": f"t{worker}-{number}", "repeat": 1}
            progress.notify(event(EventKind.TASK_STARTED, **each))
            progress.notify(event(EventKind.TASK_FINISHED, **each))

    with progress:
        progress.notify(event(EventKind.RUN_STARTED, data={"total": 400}))
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert "400/400" in frame(progress, console)


@pytest.mark.parametrize("kind", EventKind)
@pytest.mark.parametrize(
    "data", [{}, {"status": "no such"}, {"status": [], "score": "x", "seconds": None, "total": "y"}]
)
def test_odd_events_do_no_harm(kind: EventKind, data: dict[str, Any]) -> None:
    progress, console = live()
    progress.notify(event(kind, data=data))
    frame(progress, console)
    PlainProgress(io.StringIO()).notify(event(kind, data=data))


def test_the_display_is_chosen_by_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert type(progress_for(Terminal())) is LiveProgress
    assert type(progress_for(io.StringIO())) is PlainProgress
    assert type(progress_for(Terminal(), quiet=True)) is QuietProgress
    monkeypatch.setenv("TERM", "dumb")
    assert type(progress_for(Terminal())) is PlainProgress


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with QuietProgress() as progress:
        progress.say("x")
        for each in a_run():
            progress.notify(each)
    assert capsys.readouterr() == ("", "")
