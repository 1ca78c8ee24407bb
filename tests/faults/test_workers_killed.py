"""Workers killed at every boundary, stopped for a while, and killed at random."""

from __future__ import annotations

import os
import random
import signal

import pytest
from sqlalchemy import text

from runner.domain import EventKind, FailureReason, JobState, RefundReason
from tests.end_to_end.shell import state_of, wait_until

from .queueing import (
    Service,
    assert_finished,
    assert_settled,
    drained,
    is_stopped,
    kill,
    killed,
    stop,
)
from .whole import attempts_of

pytestmark = pytest.mark.docker

FOR_EVER = {"AGENTTRACE_QUEUE__LEASE_SECONDS": "600"}
"""So that a worker which is gone is known by its lock, or not at all."""
SOON = {"AGENTTRACE_QUEUE__LEASE_SECONDS": "2"}
WITHOUT_END = {"AGENTTRACE_QUEUE__MAX_LOSSES": "1000"}


def slow(*points: str) -> list[object]:
    return [pytest.param(point, marks=pytest.mark.slow) for point in points]


# -- killed, and the next one goes on --------------------------------------------------------------


@pytest.mark.parametrize(
    "point",
    [
        *slow(
            "between disk and database:2",
            "claimed",
            "in the directory, without a lock",
            "with the directory",
            "before beginning",
            "begun:2",
            "while asking",
            "before the rename:3",
            "kept in both:2",
            "kept in both:4",
            "before the result",
            "before the result's rename",
            "after the result",
            "before the job's end",
        ),
    ],
)
def test_the_next_worker_goes_on(service: Service, point: str) -> None:
    run_id = service.submit()
    killed(service.doomed_worker(point, **FOR_EVER))
    service.note_names()
    before = attempts_of(service.run(run_id))
    service.work_off(**FOR_EVER)
    assert_finished(service, run_id, before)
    assert_settled(service)


@pytest.mark.slow
def test_killed_when_all_was_said(service: Service) -> None:
    """The job is over, so nobody takes it over; what the worker left goes with `cleanup`."""
    run_id = service.submit()
    killed(service.doomed_worker("after the job's end"))
    service.note_names()
    service.work_off()
    assert service.job(run_id).claims == 1
    assert service.shell("cleanup").code == 0
    assert_finished(service, run_id)
    assert_settled(service)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_one_job_through_every_fault(either: Service) -> None:
    """Each worker dies a little further on, also in what the last death makes it do."""
    run_id = either.submit("right", "-k", "4")
    points = (
        "claimed",
        "with the directory",
        "between disk and database:2",
        "before adopting",
        "between disk and database:2",
        "after adopting",
        "taken over",
        "kept in both:3",
        "between create and start",
        "begun:2",
        "before the rename:2",
        "after the rename:2",
        "while asking",
        "before the result",
        "after the result",
        "before the job's end",
    )
    for point in points:
        before = attempts_of(either.run(run_id))
        killed(either.doomed_worker(point, **FOR_EVER, **WITHOUT_END))
        either.note_names()
        now = attempts_of(either.run(run_id))
        assert {which: now[which] for which in before} == before
    either.work_off(**FOR_EVER, **WITHOUT_END)
    assert either.job(run_id).losses == len(points)
    assert_finished(either, run_id, before, repeats=4)
    assert_settled(either)


# -- killed, while another one goes on -------------------------------------------------------------


def test_another_worker_takes_over_at_once(either: Service) -> None:
    """It had its host open when the other died, and yet nothing of that one's is left there."""
    busy_with = either.submit("once_patient")
    other = either.worker("-w", "1", **FOR_EVER)
    held = either.wait_until_waiting()
    run_id = either.enqueue(busy_with)
    doomed = either.worker("-w", "1", **FOR_EVER)
    left = either.wait_until_waiting(held)
    before = attempts_of(either.run(run_id))
    kill(doomed)
    either.release(held)
    again = either.wait_until_waiting(held, left)
    assert not state_of(either.shell.client, left)
    either.release(again)
    either.wait_for(run_id, JobState.FINISHED)
    drained(other)
    for each in (busy_with, run_id):
        assert_finished(either, each)
    assert_finished(either, run_id, before)
    assert either.job(run_id).losses == 1
    assert_settled(either)


# -- stopped, not dead -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "point", ["between disk and database:2", *slow("before keeping:2", "before the result")]
)
def test_a_stopped_worker_loses_its_lease(either: Service, point: str) -> None:
    """It commits nothing when it wakes, and goes on with other work."""
    run_id = either.submit()
    stopped = either.doomed_worker(point, how="STOP", **SOON)
    wait_until(lambda: is_stopped(stopped))
    either.note_names()
    before = attempts_of(either.run(run_id))
    other = either.worker(**SOON)
    either.wait_for(run_id, JobState.FINISHED)
    drained(other)
    result = assert_finished(either, run_id, before)
    os.killpg(stopped.process.pid, signal.SIGCONT)
    stopped.wait_for(f"run {run_id} is another worker's now")
    next_id = either.enqueue(run_id)
    either.wait_for(next_id, JobState.FINISHED)
    drained(stopped)
    assert assert_finished(either, run_id, before) == result
    assert_finished(either, next_id)
    assert_settled(either)


@pytest.mark.slow
def test_a_stopped_worker_whose_agent_still_runs(service: Service) -> None:
    """The one that took over finishes first; the container of the stale one goes when it wakes."""
    run_id = service.submit("once_patient")
    stopped = service.worker(**SOON)
    of_the_stopped = service.wait_until_waiting()
    stop(service, stopped)
    other = service.worker(**SOON)
    service.release(service.wait_until_waiting(of_the_stopped))
    service.wait_for(run_id, JobState.FINISHED)
    drained(other)
    os.killpg(stopped.process.pid, signal.SIGCONT)
    stopped.wait_for(f"run {run_id} is another worker's now")
    wait_until(lambda: not state_of(service.shell.client, of_the_stopped))
    drained(stopped)
    assert_finished(service, run_id)
    assert_settled(service)


# -- killed at random ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random(either: Service, seed: int) -> None:
    """Three workers, always begun again, until twelve submissions are done."""
    chance = random.Random(seed)
    first = either.submit("right")
    runs = [first, *(either.enqueue(first, by=f"team-{n % 3}") for n in range(11))]
    variables = {**FOR_EVER, **WITHOUT_END}
    workers = [either.worker("-w", "2", **variables) for _ in range(3)]
    kills = 0
    while not all(either.job(run_id).state.final for run_id in runs):
        either.note_names()
        if kills < 20 and chance.random() < 0.1:
            place = chance.randrange(3)
            kill(workers[place])
            workers[place] = either.worker("-w", "2", **variables)
            kills += 1
    drained(*workers)
    assert kills
    for run_id in runs:
        assert_finished(either, run_id)
    assert_settled(either)


# -- a job that kills its workers ------------------------------------------------------------------


@pytest.mark.slow
def test_a_job_that_kills_its_workers_is_given_up(service: Service) -> None:
    run_id = service.submit()
    few = {**FOR_EVER, "AGENTTRACE_QUEUE__MAX_LOSSES": "1"}
    for _ in range(2):
        killed(service.doomed_worker("kept in both", **few))
        service.note_names()
    service.work_off(**few)
    job = service.job(run_id)
    assert (job.state, job.losses) == (JobState.FAILED, 2)
    assert job.note == "given up: 2 workers were lost while they worked on it"
    assert EventKind.RUN_FINISHED not in service.kinds(run_id)
    with service.sql() as connection:
        [reason] = connection.scalars(text("SELECT failure_reason FROM jobs")).all()
    assert reason == FailureReason.INTERNAL_ERROR
    [entry] = service.quota()
    assert entry.refund_reason is RefundReason.INFRASTRUCTURE_FAILED

    before = attempts_of(service.run(run_id))
    assert len(before) == 2
    assert service.shell("queue", "retry", run_id).code == 0
    service.work_off(**few)
    assert_finished(service, run_id, before)
    assert_settled(service)
