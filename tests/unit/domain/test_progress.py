from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain import EventKind, ExecutionStatus, FailureReason, RunEvent
from runner.domain.progress import ProgressFold, progress_of

START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
HOSTILE = "\x1b[2J\u202e"


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def event(kind: EventKind, seconds: float, task_id: str | None = None, **data: Any) -> RunEvent:
    numbers = {name: data.pop(name) for name in ("repeat", "attempt") if name in data}
    numbers = {"repeat": 1, "attempt": 1} | numbers if task_id else numbers
    return RunEvent(kind=kind, at=at(seconds), run_id="r1", task_id=task_id, data=data, **numbers)


def run_started(seconds: float, total: int) -> RunEvent:
    return event(EventKind.RUN_STARTED, seconds, total=total)


def started(seconds: float, task_id: str, **more: Any) -> RunEvent:
    return event(EventKind.TASK_STARTED, seconds, task_id, **more)


def finished(seconds: float, task_id: str, **more: Any) -> RunEvent:
    return event(EventKind.TASK_FINISHED, seconds, task_id, **({"status": "completed"} | more))


def failed(seconds: float, task_id: str, reason: str, **more: Any) -> RunEvent:
    return finished(seconds, task_id, status="failed", failure_reason=reason, **more)


# -- one run -------------------------------------------------------------------------------------


def test_a_run_from_its_submission_to_its_end() -> None:
    fold = ProgressFold()
    seen = []
    for each in (
        event(EventKind.SUBMITTED, 0),
        event(EventKind.CLAIMED, 5, worker="w1", token=1),
        run_started(6, total=2),
        started(7, "t1"),
        started(8, "t2"),
        finished(9, "t1", score=100.0),
        event(EventKind.RUN_DRAINING, 10),
        failed(11, "t2", "agent_timeout"),
        event(EventKind.RUN_FINISHED, 12, status="completed"),
    ):
        fold.add(each)
        progress = fold.progress
        seen.append((progress.status.value, progress.progress_percentage(), progress.current_task))
    assert seen == [
        ("pending", 0.0, None),
        ("running", 0.0, None),
        ("running", 0.0, None),
        ("running", 0.0, "t1"),
        ("running", 0.0, "t1, t2"),
        ("running", 50.0, "t2"),
        ("running", 50.0, "t2"),
        ("running", 100.0, None),
        ("completed", 100.0, None),
    ]
    progress = fold.progress
    assert (progress.run_id, progress.total_tasks) == ("r1", 2)
    assert (progress.completed_tasks, progress.failed_tasks) == (1, 1)
    assert (progress.started_at, progress.updated_at) == (at(5), at(12))
    assert progress.estimated_completion is None
    assert progress.message == "run r1: completed"


def test_the_final_status_of_each_repeat_counts() -> None:
    progress = progress_of(
        [
            run_started(0, total=4),
            failed(1, "t1", "internal_error", attempt=1),
            finished(2, "t1", attempt=2),
            finished(3, "t1", repeat=2),
            failed(4, "t2", "agent_error"),
        ]
    )
    assert (progress.completed_tasks, progress.failed_tasks) == (2, 1)
    assert progress.progress_percentage() == 75.0


def test_a_task_that_runs_again_has_not_ended() -> None:
    events = [run_started(0, total=1), failed(1, "t1", "internal_error")]
    assert progress_of(events).progress_percentage() == 100.0
    events.append(started(2, "t1", attempt=2))
    assert progress_of(events).progress_percentage() == 0.0


def test_many_running_tasks_are_named_briefly() -> None:
    events = [started(number, f"t{number}", repeat=number + 1) for number in range(5)]
    assert progress_of(events).current_task == "t0, t1 #2, t2 #3 and 2 more"


def test_a_run_whose_size_nobody_knows_is_not_taken_for_done() -> None:
    events = [event(EventKind.SUBMITTED, 0)]
    assert progress_of(events).progress_percentage() == 0.0
    events.append(finished(1, "t1"))
    assert progress_of(events).progress_percentage() == 50.0
    events.append(event(EventKind.RUN_FINISHED, 2, status="cancelled"))
    assert progress_of(events).progress_percentage() == 100.0


def test_before_any_event() -> None:
    progress = ProgressFold().progress
    assert progress.status is ExecutionStatus.PENDING
    assert progress.progress_percentage() == 0.0
    assert progress.started_at is progress.updated_at is None


def test_a_cancelled_run_is_not_whole() -> None:
    progress = progress_of(
        [
            run_started(0, total=4),
            finished(1, "t1"),
            event(EventKind.RUN_FINISHED, 2, status="cancelled"),
        ]
    )
    assert progress.status is ExecutionStatus.CANCELLED
    assert progress.progress_percentage() == 25.0


def test_hostile_text_is_inert_in_the_message() -> None:
    for kind in EventKind:
        each = RunEvent(
            kind=kind,
            at=START,
            run_id=HOSTILE,
            task_id=HOSTILE,
            data=dict.fromkeys(("reason", "worker", "status", "until"), HOSTILE),
        )
        progress = progress_of([event(EventKind.TASK_STARTED, 0, HOSTILE), each])
        assert progress.message.isprintable()
        assert (progress.current_task or "").isprintable()


# -- going on ------------------------------------------------------------------------------------

FIRST_RUNNER = [
    run_started(0, total=5),
    started(1, "t1"),
    finished(2, "t1"),
    started(3, "t2"),
    failed(4, "t2", "internal_error"),
    started(5, "t3"),
]
"""Was killed then: t1 has a verdict, t2 has none, t3 runs."""


def test_another_runner_goes_on() -> None:
    events = [*FIRST_RUNNER, event(EventKind.RUN_RESUMED, 100, total=5, finished=1)]
    progress = progress_of(events)
    assert (progress.completed_tasks, progress.failed_tasks, progress.total_tasks) == (1, 0, 5)
    assert progress.current_task is None
    assert progress.message == "run r1 goes on: 1 of 5 tasks were judged before"
    events += [finished(100 + n, f"t{n}", attempt=2) for n in range(2, 6)]
    assert progress_of(events).progress_percentage() == 100.0


def test_who_sees_only_the_second_half_knows_of_the_first() -> None:
    events = [event(EventKind.RUN_RESUMED, 0, total=5, finished=3), finished(1, "t4")]
    progress = progress_of(events)
    assert (progress.completed_tasks, progress.total_tasks) == (4, 5)
    events.append(finished(-1, "t1"))
    assert progress_of(events).completed_tasks == 4, "late: it is one of the three"


def test_a_finished_run_that_is_put_back() -> None:
    events = [*FIRST_RUNNER, event(EventKind.RUN_FINISHED, 6, status="failed")]
    assert progress_of(events).status is ExecutionStatus.FAILED
    events.append(event(EventKind.CLAIMED, 10, worker="w2"))
    assert progress_of(events).status is ExecutionStatus.RUNNING
    events.append(run_started(11, total=5))
    progress = progress_of(events)
    assert (progress.completed_tasks, progress.failed_tasks) == (1, 0)


def test_a_postponed_run_waits() -> None:
    reason = "endpoint https://example.com is not reachable"
    until = event(EventKind.RUN_POSTPONED, 10, until="2026-11-22T12:30:05+02:00", reason=reason)
    progress = progress_of([*FIRST_RUNNER, until])
    assert progress.status is ExecutionStatus.PENDING
    assert progress.current_task is None
    assert progress.message == f"run r1 waits until 10:30:05 UTC: {reason}"


def test_a_wait_until_another_day_says_so() -> None:
    until = event(EventKind.RUN_POSTPONED, 10, until="2026-11-23T00:10:00+00:00")
    assert progress_of([until]).message == "run r1 waits until 2026-11-23 00:10:00 UTC"


# -- missing, doubled, late ----------------------------------------------------------------------


def test_a_late_start_does_not_revive_a_task() -> None:
    progress = progress_of([run_started(0, total=2), finished(2, "t1"), started(1, "t1")])
    assert progress.current_task is None
    assert progress.completed_tasks == 1


def test_a_late_retry_does_not_end_the_next_attempt() -> None:
    retried = event(EventKind.TASK_RETRIED, 2, "t1", attempt=1)
    events = [started(1, "t1"), started(3, "t1", attempt=2), retried]
    assert progress_of(events).current_task == "t1"
    assert progress_of([started(1, "t1"), retried]).current_task is None


def test_a_beginning_that_comes_late_forgets_nothing_that_came_after_it() -> None:
    events = [started(1, "t1"), failed(2, "t2", "internal_error"), run_started(0, total=3)]
    progress = progress_of(events)
    assert (progress.current_task, progress.failed_tasks, progress.total_tasks) == ("t1", 1, 3)


def test_an_ending_that_comes_late_does_not_end_the_run_that_goes_on() -> None:
    resumed = event(EventKind.RUN_RESUMED, 10, total=5, finished=1)
    late = event(EventKind.RUN_FINISHED, 6, status="failed")
    progress = progress_of([*FIRST_RUNNER, resumed, started(11, "t3", attempt=2), late])
    assert (progress.status, progress.current_task) == (ExecutionStatus.RUNNING, "t3")


def test_a_start_that_comes_after_the_end_of_the_run_does_not_revive_it() -> None:
    ended = [run_started(0, total=2), event(EventKind.RUN_FINISHED, 5, status="cancelled")]
    progress = progress_of([*ended, started(4, "t1")])
    assert (progress.status, progress.current_task) == (ExecutionStatus.CANCELLED, None)
    progress = progress_of([*ended, started(6, "t1")])
    assert (progress.status, progress.current_task) == (ExecutionStatus.RUNNING, "t1")


def a_whole_run(tasks: int, parallelism: int) -> list[RunEvent]:
    events, number = [run_started(0, total=tasks)], 0.0
    waiting = [f"t{n}" for n in range(tasks)]
    running: list[str] = []
    while waiting or running:
        number += 1
        if waiting and len(running) < parallelism:
            running.append(waiting.pop(0))
            events.append(started(number, running[-1]))
        else:
            reason = FailureReason.INTERNAL_ERROR if number % 3 else FailureReason.AGENT_ERROR
            events.append(failed(number, running.pop(0), reason))
    return events


@given(st.integers(1, 8), st.integers(1, 4), st.randoms(use_true_random=False))
def test_doubled_and_late_events_change_no_count(
    tasks: int, parallelism: int, chance: random.Random
) -> None:
    events = a_whole_run(tasks, parallelism)
    disordered = [*events, *chance.sample(events, chance.randrange(len(events)))]
    chance.shuffle(disordered)
    assert progress_of(disordered).progress_percentage() == 100.0
    assert progress_of(disordered).failed_tasks == tasks


@given(st.integers(1, 8), st.integers(1, 4), st.data())
def test_the_last_hundredth_is_the_last_task(
    tasks: int, parallelism: int, data: st.DataObject
) -> None:
    events = a_whole_run(tasks, parallelism)
    known = data.draw(st.integers(1, len(events)))
    ended = sum(1 for each in events[:known] if each.kind is EventKind.TASK_FINISHED)
    percentage = progress_of(events[:known]).progress_percentage()
    assert percentage == pytest.approx(100.0 * ended / tasks)
    assert (percentage == 100.0) == (ended == tasks)


_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from([*ExecutionStatus, *FailureReason, "2026-01-01", "9999-12-31T23:59:59-12:00"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
_zones = st.sampled_from([None, UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))])
_ends_of_time = st.sampled_from([datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)])
_events = st.builds(
    RunEvent,
    kind=st.sampled_from(EventKind),
    at=st.one_of(
        st.datetimes(timezones=_zones),
        st.floats(-100, 100).map(at),
        st.builds(datetime.replace, _ends_of_time, tzinfo=_zones),
    ),
    run_id=st.sampled_from(["r1", "r2", HOSTILE, ""]),
    task_id=st.sampled_from([None, "t1", "t2", "t3", HOSTILE]),
    repeat=st.one_of(st.none(), st.integers(-1, 2), st.integers()),
    attempt=st.one_of(st.none(), st.integers(-1, 3), st.integers()),
    data=st.dictionaries(
        st.sampled_from(
            ["total", "finished", "status", "failure_reason", "score", "seconds", "until", "reason"]
        ),
        _values,
    ),
)


def ends_known(events: Sequence[RunEvent]) -> int:
    return len(
        {(e.task_id or "", e.repeat or 1) for e in events if e.kind is EventKind.TASK_FINISHED}
    )


@given(st.lists(_events, max_size=30))
def test_whatever_a_log_says(events: list[RunEvent]) -> None:
    fold = ProgressFold()
    for number, each in enumerate(events, 1):
        fold.add(each)
        progress = fold.progress
        ended = progress.completed_tasks + progress.failed_tasks
        assert 0.0 <= progress.progress_percentage() <= 100.0
        assert (progress.progress_percentage() == 100.0) == (ended == progress.total_tasks)
        assert min(progress.completed_tasks, progress.failed_tasks) >= 0
        assert progress.failed_tasks <= ends_known(events[:number])
        assert progress.message.isprintable()
        if progress.current_task:
            assert progress.progress_percentage() < 100.0


# -- how long it will take -----------------------------------------------------------------------


def estimate(*events: RunEvent) -> float | None:
    end = progress_of(events).estimated_completion
    return (end - START).total_seconds() if end else None


def test_no_estimate_before_a_task_has_ended() -> None:
    assert estimate(run_started(0, total=3), started(0, "t1")) is None
    assert estimate(run_started(0, total=3), finished(5, "t1")) is None, "its start was not seen"


def test_one_after_the_other() -> None:
    first = (run_started(0, total=3), started(0, "t1"), finished(10, "t1"))
    assert estimate(*first) == 30
    assert estimate(*first, started(10, "t2"), finished(30, "t2")) == 45


def test_two_at_once() -> None:
    events = [run_started(0, total=8)]
    for at_ in (0, 10):
        events += [started(at_, f"a{at_}"), started(at_, f"b{at_}")]
        events += [finished(at_ + 10, f"a{at_}"), finished(at_ + 10, f"b{at_}")]
    assert estimate(*events) == 40


def test_a_task_that_takes_longer_than_others_is_not_expected_in_the_past() -> None:
    events = [run_started(0, total=3), started(0, "t1"), finished(10, "t1"), started(10, "t2")]
    assert progress_of(events).estimated_completion == at(30)
    assert progress_of(events, at(15)).estimated_completion == at(30)
    assert progress_of(events, at(100)).estimated_completion == at(110)


def test_what_runs_has_done_its_part_already() -> None:
    events = [run_started(0, total=3), *(started(0, name) for name in ("t1", "t2", "t3"))]
    assert estimate(*events, finished(10, "t1")) == 10


def test_more_at_once_than_are_left_is_no_faster() -> None:
    events = [run_started(0, total=4), *(started(0, name) for name in ("t1", "t2", "t3"))]
    events += [finished(10, name) for name in ("t1", "t2", "t3")]
    assert estimate(*events) == 20


def test_the_time_in_which_nobody_worked_does_not_count() -> None:
    events = [run_started(0, total=4), started(0, "t1"), finished(10, "t1"), started(10, "t2")]
    resumed = event(EventKind.RUN_RESUMED, 1000, total=4, finished=1)
    assert estimate(*events, resumed) == 1030
    assert estimate(*events, resumed, started(1000, "t2"), finished(1010, "t2")) == 1030


def test_a_postponed_run_goes_on_when_it_may() -> None:
    first = (run_started(0, total=2), started(0, "t1"), finished(10, "t1"))
    until = at(500).isoformat()
    assert estimate(*first, event(EventKind.RUN_POSTPONED, 20, until=until)) == 510


def test_retries_are_part_of_what_a_task_takes() -> None:
    retried = event(EventKind.TASK_RETRIED, 8, "t1")
    events = [run_started(0, total=2), started(0, "t1"), retried, started(12, "t1", attempt=2)]
    assert estimate(*events, finished(20, "t1", attempt=2)) == 40


def test_a_clock_that_was_set_back_gives_no_negative_time() -> None:
    assert estimate(run_started(0, total=2), started(10, "t1"), finished(5, "t1")) == 10


# -- the page ------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[3] / "docs" / "events.md"


@pytest.mark.parametrize("kind", EventKind)
def test_every_kind_is_documented(kind: EventKind) -> None:
    assert f"| `{kind.value}` |" in PAGE.read_text()
