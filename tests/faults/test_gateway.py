"""Runners and workers killed in the middle of agents' calls; budgets hold over all of them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from runner.domain import EventKind, JobState
from runner.records import layout
from runner.records.spending import load_spending
from tests.end_to_end.shell import SUITE, Running, Shell, wait_until

from .calling import (
    MODEL_CALLS,
    POINTS,
    TOOL_CALLS,
    assert_calls_whole,
    doomed,
    equip,
    noted_calls,
    spent_tokens,
)
from .conftest import KILLED, TASKS, only_run, resume, state_of
from .queueing import TASKS as FOUR
from .queueing import (
    Service,
    assert_finished,
    assert_settled,
    drained,
    ended,
    is_stopped,
    kill,
    killed,
)
from .upstream import BROKEN, HELD, TOKENS, WELL, Upstream
from .whole import (
    assert_kept,
    assert_nothing_left,
    assert_resumable,
    assert_whole,
    attempts_of,
    names_in,
)

pytestmark = pytest.mark.docker

ALL = MODEL_CALLS * len(TASKS)
"""Model calls of a run that nothing happens to."""
SECOND_OF_SECOND = MODEL_CALLS + 2
"""Model call: the second one of the second task."""
ITS_EXCHANGE = MODEL_CALLS + TOOL_CALLS + 3
SOON = {"AGENTTRACE_QUEUE__LEASE_SECONDS": "2"}
AMPLE = {"AGENTTRACE_RUN__MAX_TOKENS": "100000"}
SPENT_OUT = 4
INTERRUPTED = 130

CASES = {
    "before reserving": (SECOND_OF_SECOND, 0),
    "reserved": (SECOND_OF_SECOND, 0),
    "about to be sent": (SECOND_OF_SECOND, 0),
    "answered": (SECOND_OF_SECOND, 1),
    "settled": (SECOND_OF_SECOND, 1),
    "before its spending is noted": (SECOND_OF_SECOND, 1),
    "its spending is noted": (SECOND_OF_SECOND, 0),
    "before its exchange": (ITS_EXCHANGE, 0),
    "its exchange is written": (ITS_EXCHANGE, 0),
}
"""Point -> when it is struck, and how many calls that the provider answered nobody has noted."""
FAST = ("settled",)


def run_of(agent: str, *options: str) -> tuple[str, ...]:
    return ("run", f"agent.py:{agent}", "--suite", SUITE, "-n", "1", "-q", *options)


# -- a run ---------------------------------------------------------------------------------------


def test_every_point_is_tried() -> None:
    assert set(CASES) == set(POINTS)


@pytest.mark.parametrize(
    "point", [pytest.param(p, marks=() if p in FAST else pytest.mark.slow) for p in CASES]
)
def test_a_runner_is_killed_in_a_call(caller: Shell, upstream: Upstream, point: str) -> None:
    """What is lost of the books is one call at most, and of the run nothing."""
    strikes, lost = CASES[point]
    caller.environment |= AMPLE
    outcome = doomed(caller, f"{point}:{strikes}", *run_of("calls")).end()
    assert outcome.code == KILLED, outcome.err
    run, names = only_run(caller), names_in(state_of(caller))
    before = attempts_of(run)
    assert len(before) == 1
    assert_resumable(run)
    assert noted_calls(run) == upstream.answered - lost
    assert resume(caller, run).code == 0
    result = assert_whole(run, TASKS, before=before)
    assert (result.overall_score, result.retried_attempts) == (100, 0)
    for one in assert_calls_whole(run):
        assert (len(one.model_calls), len(one.tool_calls)) == (MODEL_CALLS, TOOL_CALLS)
    assert noted_calls(run) == upstream.answered - lost
    assert_nothing_left(caller.client, state_of(caller), names, caller.temporary)


@pytest.mark.slow
def test_a_runner_is_killed_while_a_provider_works(caller: Shell, upstream: Upstream) -> None:
    """What that call costs is known to nobody; its answer goes nowhere."""
    upstream.next(*[WELL] * (SECOND_OF_SECOND - 1), HELD)
    running = caller.start(*run_of("calls"), **AMPLE)
    upstream.wait_for_asked(SECOND_OF_SECOND)
    running.interrupt(signal.SIGKILL)
    assert running.end().code == KILLED
    run, names = only_run(caller), names_in(state_of(caller))
    before = attempts_of(run)
    upstream.release()
    assert noted_calls(run) == SECOND_OF_SECOND - 1
    assert resume(caller, run, **AMPLE).code == 0
    assert assert_whole(run, TASKS, before=before).overall_score == 100
    assert_calls_whole(run)
    assert noted_calls(run) == len(upstream.asked) - 1
    assert_nothing_left(caller.client, state_of(caller), names, caller.temporary)


def test_a_runner_is_told_to_stop_at_once(caller: Shell, upstream: Upstream) -> None:
    """What is under way is settled then: the provider has the request, so its input counts."""
    upstream.next(*[WELL] * (SECOND_OF_SECOND - 1), HELD)
    running = caller.start(*run_of("calls"), **AMPLE)
    upstream.wait_for_asked(SECOND_OF_SECOND)
    run = only_run(caller)
    running.interrupt(signal.SIGINT)
    wait_until(lambda: EventKind.RUN_DRAINING.encode() in (run / layout.EVENTS).read_bytes())
    running.interrupt(signal.SIGINT)
    assert running.end().code == INTERRUPTED
    before = attempts_of(run)
    *noted, last = load_spending(run / layout.SPENDING)
    assert len(noted) == SECOND_OF_SECOND - 1
    assert (last.tokens_input > 0, last.tokens_output) == (True, 0)
    upstream.release()
    assert resume(caller, run, **AMPLE).code == 0
    assert_kept_and_judged(run, before)


@pytest.mark.slow
def test_a_run_of_two_runners_can_be_replayed(caller: Shell, upstream: Upstream) -> None:
    """From what both of them recorded, with nobody to ask."""
    point = f"its exchange is written:{ITS_EXCHANGE}"
    assert doomed(caller, point, *run_of("calls")).end().code == KILLED
    run = only_run(caller)
    assert resume(caller, run).code == 0
    upstream.down()
    outcome = caller("replay", run.name, "-q")
    assert outcome.code == 0, outcome.err
    replayed = assert_whole(caller.runs[-1], TASKS)
    assert (replayed.replay_of, replayed.overall_score) == (run.name, 100)
    assert all(call.cached for one in replayed.task_executions for call in one.model_calls)


@pytest.mark.slow
def test_a_line_of_spending_is_torn(caller: Shell, upstream: Upstream) -> None:
    """As a power cut leaves it: the next runner's first line is one of its own."""
    assert doomed(caller, "its spending is noted:2", *run_of("calls")).end().code == KILLED
    run = only_run(caller)
    spending = run / layout.SPENDING
    os.truncate(spending, spending.stat().st_size - 20)
    assert noted_calls(run) == 1
    assert resume(caller, run, **AMPLE).code == 0
    assert_whole(run, TASKS)
    assert_calls_whole(run, damaged=1)
    assert noted_calls(run) == upstream.answered - 1


@pytest.mark.slow
@pytest.mark.parametrize("point", ["reserved", "answered", "its spending is noted"])
def test_a_budget_holds_over_two_runners(caller: Shell, upstream: Upstream, point: str) -> None:
    """It may be exceeded by the call that was under way at the kill, and by nothing else."""
    budget = TOKENS * (ALL - 1)
    caller.environment |= {"AGENTTRACE_RUN__MAX_TOKENS": str(budget)}
    assert doomed(caller, f"{point}:{SECOND_OF_SECOND}", *run_of("calls")).end().code == KILLED
    run = only_run(caller)
    lost = CASES[point][1]
    outcome = resume(caller, run)
    assert outcome.code == SPENT_OUT, outcome.err
    assert spent_tokens(run) <= budget
    assert TOKENS * upstream.answered <= budget + lost * TOKENS
    answered = upstream.answered
    assert resume(caller, run).code == SPENT_OUT, "a further runner begins where this one ended"
    assert TOKENS * upstream.answered <= budget + lost * TOKENS
    assert upstream.answered <= answered + 1
    before = attempts_of(run)
    assert resume(caller, run, **AMPLE).code == 0
    assert_kept_and_judged(run, before)
    assert noted_calls(run) == upstream.answered - lost


def assert_kept_and_judged(run: Path, before: dict[tuple[str, int, int], str]) -> None:
    result = assert_whole(run, TASKS, before=before)
    assert result.overall_score == 100
    assert_calls_whole(run)


# -- a queue -------------------------------------------------------------------------------------


@pytest.fixture
def calling_service(service: Service, upstream: Upstream) -> Service:
    equip(service.shell, upstream)
    return service


@pytest.mark.slow
@pytest.mark.parametrize("point", ["reserved", "settled", "before its exchange"])
def test_a_worker_is_killed_in_a_call(
    calling_service: Service, upstream: Upstream, point: str
) -> None:
    strikes, lost = CASES[point]
    run_id = calling_service.submit("calls")
    killed(doomed(calling_service.shell, f"{point}:{strikes}", "worker"))
    calling_service.note_names()
    run = calling_service.run(run_id)
    before = attempts_of(run)
    assert len(before) == 1
    calling_service.work_off()
    assert_finished(calling_service, run_id, before)
    assert_settled(calling_service)
    assert_calls_whole(run)
    assert noted_calls(run) == upstream.answered - lost


@pytest.mark.slow
def test_another_worker_takes_over_during_a_call(
    calling_service: Service, upstream: Upstream
) -> None:
    """The provider still works for the one that is gone."""
    upstream.next(HELD)
    run_id = calling_service.submit("calls")
    first = calling_service.worker()
    upstream.wait_for_asked(1)
    other = calling_service.worker()
    other.wait_for("is ready")
    calling_service.note_names()
    kill(first)
    calling_service.wait_for(run_id, JobState.FINISHED)
    upstream.release()
    drained(other)
    assert_finished(calling_service, run_id)
    assert_settled(calling_service)
    run = calling_service.run(run_id)
    assert_calls_whole(run)
    assert noted_calls(run) == len(upstream.asked) - 1 == MODEL_CALLS * len(FOUR)


@pytest.mark.slow
def test_a_worker_is_killed_as_it_tries_a_failed_provider_again(
    calling_service: Service, upstream: Upstream
) -> None:
    """The one call that a half-open breaker lets through dies with it, and keeps nobody waiting."""
    few = {
        "AGENTTRACE_GATEWAY__RETRIES": "0",
        "AGENTTRACE_GATEWAY__MAX_WAIT_SECONDS": "10",
        "AGENTTRACE_BREAKER__FAILURES": "1",
        "AGENTTRACE_BREAKER__OPEN_SECONDS": "1",
    }
    upstream.next(BROKEN, HELD)
    run_id = calling_service.submit("insists")
    first = calling_service.worker(**few)
    upstream.wait_for_asked(2)
    calling_service.note_names()
    kill(first)
    upstream.release()
    calling_service.work_off(**few)
    assert_finished(calling_service, run_id)
    assert_settled(calling_service)
    assert_calls_whole(calling_service.run(run_id))
    assert len(upstream.asked) == 2 + len(FOUR)


@pytest.mark.slow
def test_an_agent_closes_a_provider_to_nobody_else(
    calling_service: Service, upstream: Upstream
) -> None:
    """One whose calls all fail opens the breaker of its own run."""
    few = {"AGENTTRACE_GATEWAY__RETRIES": "0", "AGENTTRACE_GATEWAY__MAX_WAIT_SECONDS": "0"}
    upstream.next(*[BROKEN] * 5)
    failing = calling_service.submit("shrugs")
    other = calling_service.submit("calls", by="others")
    ended(calling_service.worker("--until-empty", "-w", "1", **few))
    assert len(upstream.asked) == 5 + MODEL_CALLS * len(FOUR)
    scores = [one.normalized_score for one in calling_service.kept(failing)]
    assert scores == [0] * len(FOUR)
    assert_finished(calling_service, other)
    assert_settled(calling_service)


@pytest.mark.slow
def test_a_stopped_worker_wakes_in_a_call(calling_service: Service, upstream: Upstream) -> None:
    """It has lost its lease: its attempt does not count, what it spent does."""
    strikes, _ = CASES["settled"]
    run_id = calling_service.submit("calls")
    stopped = doomed(calling_service.shell, f"settled:{strikes}", "worker", how="STOP", **SOON)
    wait_until(lambda: is_stopped(stopped))
    calling_service.note_names()
    run = calling_service.run(run_id)
    before = attempts_of(run)
    other = calling_service.worker(**SOON)
    calling_service.wait_for(run_id, JobState.FINISHED)
    drained(other)
    noted = noted_calls(run)
    assert noted == upstream.answered - 1
    result = assert_finished(calling_service, run_id, before)
    os.killpg(stopped.process.pid, signal.SIGCONT)
    stopped.wait_for(f"run {run_id} is another worker's now")
    drained(stopped)
    assert assert_finished(calling_service, run_id, before) == result
    assert_settled(calling_service)
    assert_calls_whole(run)
    assert len(list(load_spending(run / layout.SPENDING))) > noted, "its call was charged too"


# -- at any moment -------------------------------------------------------------------------------

ROUNDS, SEED, REPEATS, AT_ONCE = 12, 4, 4, 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_any_moment_of_many_calls(caller: Shell, upstream: Upstream) -> None:
    """Each death loses the calls under way of the books, and nothing else."""
    chance = random.Random(SEED)
    killed_runners, names = 0, list[str]()
    command = run_of("calls", "-k", str(REPEATS), "-n", str(AT_ONCE))
    while not caller.runs or not (caller.runs[-1] / layout.EXECUTION).exists():
        before = attempts_of(caller.runs[-1]) if caller.runs else {}
        running = caller.start(*command, **AMPLE)
        if killed_runners < ROUNDS:
            crash_after(running, chance.uniform(1.0, 4.0))
        outcome = running.end()
        assert outcome.code in {0, KILLED}, outcome.err
        killed_runners += outcome.code == KILLED
        names += names_in(state_of(caller))
        if caller.runs:
            command = ("resume", caller.runs[-1].name, "-q")
            assert_kept(caller.runs[-1], before)
    run = only_run(caller)
    assert killed_runners > 1
    assert assert_whole(run, TASKS, REPEATS).overall_score == 100
    assert_calls_whole(run)
    lost = upstream.answered - noted_calls(run)
    assert 0 <= lost <= AT_ONCE * killed_runners
    assert_nothing_left(caller.client, state_of(caller), names, caller.temporary)


def crash_after(running: Running, seconds: float) -> None:
    """As a crash would, unless it ends by itself before."""
    try:
        running.process.wait(seconds)
    except subprocess.TimeoutExpired:
        running.interrupt(signal.SIGKILL)
