from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.domain import EventKind, RunEvent
from runner.errors import InfrastructureError
from runner.records import RunDirectory
from runner.records.follow import follow
from tests.unit.records.nouns import RUN_ID, benchmark, event, plan


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[RunDirectory]:
    """A run that is under way: its log is locked."""
    run = RunDirectory(tmp_path / "runs", RUN_ID)
    run.begin(plan())
    yield run
    run.close()


def started(task_id: str) -> RunEvent:
    return event(EventKind.TASK_STARTED, task_id=task_id)


ENDED = event(EventKind.RUN_FINISHED, data={"status": "completed"})


def followed(path: Path, *steps: Callable[[], object], awaited: bool = False) -> list[RunEvent]:
    """All events; each time that there is nothing new, the next step is done.

    It is `awaited`, or not, until all steps are done, and not any more then.
    """
    found, waiting = [], list(steps)
    for each in follow(path, 0, lambda: awaited and bool(waiting)):
        if each is not None:
            found.append(each)
        elif waiting:
            waiting.pop(0)()
    assert not waiting, "ended before all was done"
    return found


def test_events_come_as_they_are_written(directory: RunDirectory) -> None:
    directory.event(started("t1"))
    found = followed(
        directory.path,
        lambda: directory.event(started("t2")),
        lambda: directory.event(ENDED),
    )
    assert found == [started("t1"), started("t2"), ENDED]


def test_a_living_runner_may_be_silent(directory: RunDirectory) -> None:
    silence = [lambda: None] * 50
    assert followed(directory.path, *silence, lambda: directory.event(ENDED)) == [ENDED]


def test_a_line_is_taken_when_it_is_whole(directory: RunDirectory) -> None:
    line = started("t1").model_dump_json().encode() + b"\n"
    log = os.open(directory.path / "events.jsonl", os.O_WRONLY | os.O_APPEND)
    seen = []
    for each in follow(directory.path, 0):
        seen.append(each)
        if len(seen) == 1:
            os.write(log, line[:20])
        elif len(seen) == 2:
            os.write(log, line[20:])
        elif len(seen) == 4:
            directory.event(ENDED)
    os.close(log)
    assert seen == [None, None, started("t1"), None, ENDED]


def test_what_is_no_event_is_passed_over(directory: RunDirectory) -> None:
    with (directory.path / "events.jsonl").open("ab") as log:
        log.write(b'{"kind": "task_sta\n\xff\x00\n[]\n\n' + b"x" * 3_000_000)
        log.write(b"\n")
    directory.event(ENDED)
    assert followed(directory.path) == [ENDED]


def test_a_line_without_end_is_not_kept(directory: RunDirectory) -> None:
    def write() -> None:
        with (directory.path / "events.jsonl").open("ab") as log:
            log.write(b"x" * 3_000_000)

    def end() -> None:
        with (directory.path / "events.jsonl").open("ab") as log:
            log.write(b"\n")
        directory.event(ENDED)

    assert followed(directory.path, write, end) == [ENDED]


def test_a_run_whose_runner_was_killed(directory: RunDirectory) -> None:
    directory.event(started("t1"))
    found = []

    def watch() -> None:
        for each in follow(directory.path, 0):
            found.append(each)
            if found == [started("t1"), None]:
                directory.event(started("t2"))
                directory.close()

    with pytest.raises(InfrastructureError) as raised:
        watch()
    assert [each for each in found if each] == [started("t1"), started("t2")]
    assert raised.value.message == f"the runner of run {RUN_ID} ended before the run did"
    assert f"`agenttrace resume {RUN_ID}`" in raised.value.remedy
    assert raised.value.exit_code == 3


def test_the_last_words_of_a_runner_are_heard(directory: RunDirectory) -> None:
    def end() -> None:
        directory.event(ENDED)
        directory.finish(benchmark())

    assert followed(directory.path, end) == [ENDED]


def test_a_run_that_ended_long_ago(directory: RunDirectory) -> None:
    directory.event(started("t1"))
    directory.event(ENDED)
    directory.close()
    assert followed(directory.path) == [started("t1"), ENDED]


def test_a_run_that_was_gone_on_with_has_a_second_end(directory: RunDirectory) -> None:
    resumed = event(EventKind.RUN_RESUMED, data={"total": 2, "finished": 1})
    for each in (ENDED, resumed):
        directory.event(each)
    assert followed(directory.path, lambda: directory.event(ENDED)) == [ENDED, resumed, ENDED]


def test_a_run_that_is_yet_to_begin(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "runs", RUN_ID)

    def begin() -> None:
        run.begin(plan())
        run.event(ENDED)

    quiet = [lambda: None] * 10
    assert followed(run.path, *quiet, begin, awaited=True) == [ENDED]
    run.close()


def test_a_run_that_nobody_will_begin(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError):
        followed(tmp_path / "r1")


def test_an_ending_that_will_not_be_the_last(directory: RunDirectory) -> None:
    directory.event(ENDED)
    directory.close()
    again = event(EventKind.RUN_RESUMED)

    def go_on() -> None:
        directory.event(again)

    quiet = [lambda: None] * 10
    found = followed(directory.path, *quiet, go_on, lambda: directory.event(ENDED), awaited=True)
    assert found == [ENDED, again, ENDED]


def test_a_removed_run_does_not_hold_a_watcher(directory: RunDirectory) -> None:
    directory.event(started("t1"))

    def remove() -> None:
        directory.close()
        (directory.path / "events.jsonl").unlink()

    with pytest.raises(InfrastructureError):
        followed(directory.path, remove)
