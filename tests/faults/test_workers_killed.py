"""Workers killed at every boundary, stopped, and killed at random: what others make of it."""

from __future__ import annotations

import os
import random
import signal

import pytest

from runner.domain import EventKind, FailureReason, JobState
from tests.end_to_end.shell import Running, wait_until

from .queueing import (
    TASKS,
    Service,
    assert_finished,
    assert_settled,
    ended,
    kill,
    killed,
)
from .whole import attempts_of

pytestmark = pytest.mark.docker

FOR_EVER = {"AGENTTRACE_QUEUE__LEASE_SECONDS": "600"}
"""So that a worker which is gone is known by its lock, or not at all."""

FIRST = (
    "claimed",
    "in the directory, without a lock",
    "after the directory",
    "before beginning",
    "begun",
    "while asking",
)
LATER = (
    "taken over",
    "before the rename",
    "after the rename",
    "between disk and database",
    "kept in both",
    "before the job's end",
    "before the result",
    "after the result",
)


@pytest.mark.parametrize(
    "point",
    [
        "claimed",
        "between disk and database:2",
        "after the result",
        *(
            pytest.param(point, marks=pytest.mark.slow)
            for point in (
                "in the directory, without a lock",
                "after the directory",
                "before beginning",
                "begun:2",
                "while asking",
                "before the rename:3",
                "kept in both:2",
                "kept in both:4",
                "before the result",
                "before the result's rename",
                "before the job's end",
                "after the job's end",
            )
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
