"""The runner is killed at each boundary between two of its states; `resume` makes the run whole."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner.domain import EventKind
from tests.end_to_end.shell import SUITE, Shell, wait_until

from .conftest import (
    KILLED,
    ROOT,
    TASKS,
    all_released,
    in_second_task,
    only_run,
    resume,
    start_tiny,
    state_of,
)
from .killing import POINTS
from .whole import (
    assert_kept,
    assert_nothing_left,
    assert_resumable,
    assert_whole,
    attempts_of,
    names_in,
    show,
)

pytestmark = pytest.mark.docker

SECOND = ":2"
"""Of the tasks, so that one has its verdict and one was not begun. A container is started before
the first task, too: what is counted there is one further.
"""
THIRD = ":3"
CASES = {
    "with the directory": ("", 0),
    "before an attempt's number": (SECOND, 1),
    "after an attempt's number": (SECOND, 1),
    "with a name, without a container": (THIRD, 1),
    "between create and start": (THIRD, 1),
    "after start": (THIRD, 1),
    "before asking": (SECOND, 1),
    "while asking": (SECOND, 1),
    "before measuring": (SECOND, 1),
    "after measuring": (SECOND, 1),
    "before removing": (THIRD, 1),
    "after removing": (THIRD, 1),
    "before keeping": (SECOND, 1),
    "kept half": (SECOND, 1),
    "before the rename": (SECOND, 1),
    "after the rename": (SECOND, 2),
    "before the event": (SECOND, 2),
    "after the event": (SECOND, 2),
    "before the result": ("", 3),
    "before the result's rename": ("", 3),
}
"""Point -> when it is struck, and how many attempts are on disk by then."""
FINISHED = ("after the result", "after the last event")
BEFORE_THE_RUN = ("before the directory", "in the directory, without a lock")
FAST = ("while asking", "before the rename", "before the result's rename")
ROUNDS = 20


def killed_at(shell: Shell, point: str, *arguments: str) -> None:
    """A command that comes to that point and no further."""
    deadly = Shell(
        shell.directory,
        shell.client,
        (sys.executable, "-m", "tests.faults.killing", point, "--"),
        {"PYTHONPATH": str(ROOT)},
    )
    shell.started.append(running := deadly.start(*arguments))
    outcome = running.end()
    assert outcome.code == KILLED, outcome.err


def killed_run(shell: Shell, point: str) -> None:
    killed_at(shell, point, "run", "agent.py:right", "--suite", SUITE, "-n", "1", "-q")


def marked(points: tuple[str, ...]) -> list[object]:
    return [pytest.param(p, marks=() if p in FAST else pytest.mark.slow) for p in points]


def test_every_point_is_tried() -> None:
    assert {*CASES, *FINISHED, *BEFORE_THE_RUN} == set(POINTS)


@pytest.mark.parametrize("point", marked(tuple(CASES)))
def test_it_is_gone_on_with(shell: Shell, point: str) -> None:
    strikes, kept = CASES[point]
    killed_run(shell, point + strikes)
    run, names = only_run(shell), names_in(state_of(shell))
    before = attempts_of(run)
    assert len(before) == kept
    assert_resumable(run)
    outcome = resume(shell, run)
    assert outcome.code == 0, outcome.err
    result = assert_whole(run, TASKS, before=before)
    assert outcome.json == result.model_dump(mode="json")
    assert {one.attempt for one in result.task_executions} == {1}
    assert_nothing_left(shell.client, state_of(shell), names, shell.temporary)


@pytest.mark.parametrize("point", marked(FINISHED))
def test_it_was_over(shell: Shell, point: str) -> None:
    """Whoever reads it finds the result, and nothing is run again."""
    killed_run(shell, point)
    run, names = only_run(shell), names_in(state_of(shell))
    before = attempts_of(run)
    result = assert_whole(run, TASKS)
    outcome = resume(shell, run)
    assert outcome.code == 0, outcome.err
    again = assert_whole(run, TASKS, before=before)
    assert again.task_executions == result.task_executions
    assert attempts_of(run) == before
    assert start_tiny(shell).code == 0  # whoever next uses the engine reaps
    assert_nothing_left(shell.client, state_of(shell), names, shell.temporary)


@pytest.mark.slow
def test_before_there_is_a_directory(shell: Shell) -> None:
    """Nothing can be gone on with; the next run removes what is left in the engine."""
    killed_run(shell, "before the directory")
    assert not shell.runs
    names = names_in(state_of(shell))
    assert start_tiny(shell).code == 0
    assert_whole(only_run(shell), TASKS)
    assert_nothing_left(shell.client, state_of(shell), names, shell.temporary)


@pytest.mark.slow
def test_in_a_directory_without_a_lock(shell: Shell) -> None:
    """What is not pinned cannot be gone on with, and both commands say so."""
    killed_run(shell, "in the directory, without a lock")
    run = only_run(shell)
    summary = show(run)["summary"]
    assert summary["status"] == "failed"
    assert any("stopped before it began" in note for note in summary["notes"])
    assert not any("agenttrace resume" in note for note in summary["notes"])
    outcome = resume(shell, run)
    assert outcome.code == 3
    assert outcome.next.startswith("start a new run")
    assert start_tiny(shell).code == 0
    assert_whole(shell.runs[-1], TASKS)


@pytest.mark.slow
def test_a_run_that_was_resumed_is_killed_again(shell: Shell) -> None:
    """Each runner dies one task further; the attempts of all of them make one run."""
    killed_run(shell, "while asking:1")
    run = only_run(shell)
    names = names_in(state_of(shell))
    for point, kept in (("while asking:2", 1), ("after the rename:1", 2), ("before the result", 3)):
        before = attempts_of(run)
        killed_at(shell, point, "resume", run.name, "-q")
        assert_kept(run, before)
        assert_resumable(run)
        assert len(attempts_of(run)) == kept
        names += names_in(state_of(shell))
    assert resume(shell, run).code == 0
    assert_whole(run, TASKS)
    assert_nothing_left(shell.client, state_of(shell), names, shell.temporary)


@pytest.mark.slow
def test_a_run_that_was_interrupted_is_resumed_and_killed(shell: Shell) -> None:
    """Ctrl-C left a result of what had finished; it does not stand for the whole."""
    running = in_second_task(shell)
    run = only_run(shell)
    running.interrupt(signal.SIGINT)
    wait_until(lambda: EventKind.RUN_DRAINING.encode() in (run / "events.jsonl").read_bytes())
    with all_released(shell):
        assert running.end().code == INTERRUPTED
    before = attempts_of(run)
    assert len(before) == 2
    killed_at(shell, "while asking", "resume", run.name, "-q")
    names = names_in(state_of(shell))
    assert show(run)["summary"]["status"] != "running"
    assert attempts_of(run) == before
    with all_released(shell):
        assert resume(shell, run).code == 0
    assert_whole(run, TASKS, before=before)
    assert_nothing_left(shell.client, state_of(shell), names, shell.temporary)


INTERRUPTED = 130

SOMEWHAT_SLOW = """
def busy(prompt, config):
    time.sleep(0.2)
    return right(prompt, config)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_any_moment(shell: Shell) -> None:
    """Again and again, at moments that a seed chooses; the last one may finish what it began."""
    chance = random.Random(SEED)
    shell.write("agent.py", (shell.directory / "agent.py").read_text() + SOMEWHAT_SLOW)
    names: list[str] = []
    killed = 0
    while killed < ROUNDS or _unfinished(shell):
        before = {run: attempts_of(run) for run in shell.runs}
        running = shell.start(*_next_command(shell))
        if killed < ROUNDS:
            _kill_after(running.process, chance.uniform(0.3, 4.0))
        outcome = running.end()
        assert outcome.code in {0, KILLED}, outcome.err
        killed += outcome.code == KILLED
        names += names_in(state_of(shell))
        for run, attempts in before.items():
            assert_kept(run, attempts)
    for run in shell.runs:
        assert_whole(run, TASKS, REPEATS)
    assert_nothing_left(shell.client, state_of(shell), names, shell.temporary)


SEED = 20
REPEATS = 4


def _unfinished(shell: Shell) -> list[Path]:
    return [run for run in shell.runs if not (run / "execution.json").exists()]


def _next_command(shell: Shell) -> list[str]:
    """To go on with the run that is not over yet, or to begin one."""
    if unfinished := _unfinished(shell):
        return ["resume", unfinished[-1].name, "-q"]
    return ["run", "agent.py:busy", "--suite", SUITE, "-q", "-n", "2", "-k", str(REPEATS)]


def _kill_after(process: subprocess.Popen[str], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
