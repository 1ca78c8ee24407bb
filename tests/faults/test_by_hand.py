"""What people do to a host while a run goes on: remove its things, and start more of the same."""

from __future__ import annotations

import signal
from pathlib import Path

import docker.errors
import pytest

from runner.domain import FailureReason, TaskExecution
from tests.end_to_end.shell import PATIENCE_SECONDS, Shell, remove, wait_until

from .conftest import (
    INFRASTRUCTURE,
    KILLED,
    TASKS,
    all_released,
    in_second_task,
    only_run,
    resume,
    state_of,
)
from .engine import Fault, FaultyNetwork, How
from .whole import (
    assert_nothing_left,
    assert_resumable,
    assert_whole,
    attempts_of,
    is_locked,
    names_in,
    show,
)

pytestmark = pytest.mark.docker

USAGE = 2


# -- removed -------------------------------------------------------------------------------------


def test_a_container_is_removed_in_an_attempt(shell: Shell) -> None:
    """`docker rm -f`: that attempt does not count, and is made again."""
    running = shell.start_run("agent.py:patient", "-n", "1", "-q", "--json")
    [removed] = shell.wait_until_running()
    remove(shell.client, removed)
    with all_released(shell):
        outcome = running.end()
    assert outcome.code == 0, outcome.err
    run = only_run(shell)
    result = assert_whole(run, TASKS)
    assert (result.retried_attempts, result.overall_score) == (1, 100)
    [spoilt] = spoilt_attempts(run)
    assert spoilt.failure_reason is FailureReason.INTERNAL_ERROR
    assert removed in spoilt.failure_detail


def spoilt_attempts(run: Path) -> list[TaskExecution]:
    """Those that have no verdict."""
    kept = [
        TaskExecution.model_validate_json(p.read_bytes()) for p in run.glob("tasks/*/*/e*.json")
    ]
    return [one for one in kept if not one.has_verdict]


def test_the_image_is_removed_between_attempts(shell: Shell) -> None:
    """`docker rmi -f`: no further attempt can be made until the run is gone on with."""
    target = shell.client.address.socket_path
    assert target
    second_task = Fault(r"^POST /containers/create", 3, How.HELD)
    with FaultyNetwork(target, second_task) as network:
        running = shell.start_run("agent.py:right", "-n", "1", "-q", DOCKER_HOST=network.url)
        assert second_task.struck.wait(PATIENCE_SECONDS)
        run = only_run(shell)
        remove_image(shell, run)
        second_task.over.set()
        outcome = running.end()
    assert outcome.code == INFRASTRUCTURE, outcome.err
    assert "image" in outcome.error
    assert f"`agenttrace resume {run.name}`" in outcome.next
    assert_resumable(run)
    before = attempts_of(run)
    assert len(before) == 1
    outcome = resume(shell, run)
    assert outcome.code == 0, outcome.err
    result = assert_whole(run, TASKS, before=before)
    assert (result.retried_attempts, result.overall_score) == (0, 100)


def remove_image(shell: Shell, run: Path) -> None:
    """Its names and itself."""
    [first] = run.glob("tasks/*/*/execution.json")
    facts = TaskExecution.model_validate_json(first.read_bytes()).sandbox
    assert facts
    image = facts.image_id
    shell.client.call_blocking("rmi", lambda api: api.remove_image(image, force=True))
    with pytest.raises(Exception, match="No such image") as caught:
        shell.client.call_blocking("inspect", lambda api: api.inspect_image(image))
    assert isinstance(caught.value.__cause__, docker.errors.ImageNotFound)


# -- several at once -----------------------------------------------------------------------------


@pytest.mark.slow
def test_two_runs_at_once(shell: Shell) -> None:
    """On one host, with the same runs and state: neither takes anything of the other."""
    both = [shell.start_run("agent.py:right", "-n", "2", "-k", "2", "-q") for _ in range(2)]
    outcomes = [one.end() for one in both]
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    assert len(shell.runs) == 2
    for run in shell.runs:
        assert assert_whole(run, TASKS, repeats=2).overall_score == 100


def test_a_run_under_way_cannot_be_resumed(shell: Shell) -> None:
    running = in_second_task(shell)
    run = only_run(shell)
    staged = sorted(run.glob(".staging/*"))
    outcome = resume(shell, run)
    assert outcome.code == USAGE
    assert outcome.error == f"run {run.name} is under way"
    assert "agenttrace runs watch" in outcome.next
    assert staged
    assert sorted(run.glob(".staging/*")) == staged
    assert show(run)["summary"]["status"] == "running"
    with all_released(shell):
        assert running.end().code == 0
    assert_whole(run, TASKS)


@pytest.mark.slow
def test_two_resume_at_once(shell: Shell) -> None:
    """One goes on, the other is told that somebody does; nothing is run twice."""
    killed = in_second_task(shell)
    run = only_run(shell)
    killed.interrupt(signal.SIGKILL)
    assert killed.end().code == KILLED
    names, before = names_in(state_of(shell)), attempts_of(run)
    both = [shell.start("resume", run.name, "-q") for _ in range(2)]
    wait_until(lambda: any(one.process.poll() is not None for one in both))
    assert is_locked(run / "events.jsonl")
    with all_released(shell):
        outcomes = [one.end() for one in both]
    assert sorted(outcome.code for outcome in outcomes) == [0, USAGE], outcomes
    result = assert_whole(run, TASKS, before=before)
    assert len(attempts_of(run)) == len(TASKS)
    assert result.overall_score == 100
    assert_nothing_left(shell.client, state_of(shell), names, shell.temporary)
