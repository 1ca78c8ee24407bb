"""Ctrl-C once and twice, SIGTERM, SIGKILL: what runs, what is kept, what is left in the engine.

Agents here wait until they are told to go on, and the tests wait for what they see: no sleeping.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import Any

import docker.errors
import pytest

from runner.domain import BenchmarkExecution, ExecutionStatus
from runner.engine import EngineClient

from .conftest import MANIFEST, SESSION
from .shell import PATIENCE_SECONDS, SUITE, Outcome, Shell, release, state_of, wait_until

pytestmark = pytest.mark.docker

INTERRUPTED = 130
STOP_SECONDS = 5.0
ANNOUNCED = "stopping: what runs may finish"


def partial_result(shell: Shell, outcome: Outcome) -> BenchmarkExecution:
    """On disk as it was printed, and cancelled."""
    assert outcome.code == INTERRUPTED, outcome.err
    [run] = shell.runs
    kept = BenchmarkExecution.model_validate_json((run / "execution.json").read_bytes())
    assert BenchmarkExecution.model_validate_json(outcome.out) == kept
    assert kept.status is ExecutionStatus.CANCELLED
    going_on = f"`agenttrace resume {run.name}` goes on"
    assert outcome.next == f"what had finished is in runs/{run.name}; {going_on}"
    return kept


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_once_lets_the_tasks_in_progress_finish(shell: Shell, number: signal.Signals) -> None:
    running = shell.start_run("agent.py:patient", "-n", "1", "--json")
    [name] = shell.wait_until_running()
    running.interrupt(number)
    running.wait_for(ANNOUNCED)
    assert state_of(shell.client, name)["Running"]
    release(shell.client, name)
    outcome = running.end()
    [task] = partial_result(shell, outcome).task_executions
    assert (task.status, task.normalized_score) == (ExecutionStatus.COMPLETED, 100)
    assert outcome.error == "interrupted after 1 of 3 tasks"
    assert outcome.err.count(": started\n") == 1
    [listed] = shell("runs", "list", "--json").json
    assert (listed["status"], listed["tasks_finished"], listed["tasks_total"]) == (
        "cancelled",
        1,
        3,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_twice_stops_at_once(shell: Shell, number: signal.Signals) -> None:
    running = shell.start_run("agent.py:patient", "-n", "2", "--json")
    names = shell.wait_until_running(2)
    running.interrupt(number)
    running.wait_for(ANNOUNCED)
    started = time.monotonic()
    running.interrupt(number)
    outcome = running.end()
    assert time.monotonic() - started < STOP_SECONDS
    assert not partial_result(shell, outcome).task_executions
    assert not [name for name in names if state_of(shell.client, name)]
    assert not shell.journals


@pytest.mark.parametrize("times", [1, 2])
def test_before_the_first_task(shell: Shell, times: int) -> None:
    """During a build: neither its container nor a nameless image is left."""
    mark = f"{SESSION}-{time.monotonic_ns()}"
    shell.write("sub/submission.toml", BUILT)
    shell.write("sub/Dockerfile", DOCKERFILE.format(mark=mark))
    running = shell.start_run("sub")
    wait_until(lambda: building(shell.client, mark))
    started = time.monotonic()
    for _ in range(times):
        running.interrupt()
    outcome = running.end()
    assert time.monotonic() - started < STOP_SECONDS
    assert (outcome.code, outcome.out) == (INTERRUPTED, "")
    assert outcome.error == "interrupted before the first task"
    assert not shell.runs
    wait_until(lambda: not building(shell.client, mark))
    assert not nameless(shell.client, mark)


BUILT = MANIFEST + 'endpoint_type = "container"\ndockerfile = "Dockerfile"\n'
DOCKERFILE = """ARG BASE_IMAGE
FROM ${{BASE_IMAGE}}
RUN echo {mark} > /mark
RUN : {mark}; sleep 60
CMD ["cat"]
"""


def building(client: EngineClient, mark: str) -> list[str]:
    """Containers of the build's sleeping step."""
    found = client.call_blocking("list", lambda api: api.containers(all=True))
    return [one["Id"] for one in found if mark in one["Command"]]


def nameless(client: EngineClient, mark: str) -> list[str]:
    """Images without a name that hold a step of the build."""

    def find(api: Any) -> list[str]:
        ids = [i["Id"] for i in api.images(all=True) if not real_tags(i)]
        return [one for one in ids if any(mark in step for step in steps_of(api, one))]

    return client.call_blocking("find", find)


def real_tags(image: dict[str, Any]) -> list[str]:
    return [tag for tag in image["RepoTags"] or () if tag != "<none>:<none>"]


def steps_of(api: Any, image_id: str) -> list[str]:
    try:
        return [layer["CreatedBy"] for layer in api.history(image_id)]
    except docker.errors.NotFound:  # others remove images too
        return []


# -- killed ---------------------------------------------------------------------------------------


def test_what_a_killed_runner_leaves(shell: Shell) -> None:
    """Its containers end by themselves and are reaped; who runs meanwhile is not disturbed."""
    other = shell.start_run("agent.py:patient", "-t", "gamma", "--json")
    [of_the_other] = shell.wait_until_running()
    killed = shell.start_run("agent.py:patient", "-c", "reasoning", "-n", "1", "--json")
    [left] = set(shell.wait_until_running(2)) - {of_the_other}
    killed.interrupt(signal.SIGKILL)
    assert killed.end().code == -signal.SIGKILL
    wait_until(lambda: not state_of(shell.client, left)["Running"])  # its shim saw the end

    assert f"would remove {left}" in shell("cleanup", "--dry-run").out.splitlines()
    assert state_of(shell.client, left)
    assert left in shell("cleanup", "--json").json["removed"]
    assert not state_of(shell.client, left)
    assert state_of(shell.client, of_the_other)["Running"]

    listed = {run["run_id"]: run for run in shell("runs", "list", "--json").json}
    by_status = {run["status"]: run for run in listed.values()}
    assert set(by_status) == {"failed", "running"}
    [note] = by_status["failed"]["notes"]
    assert note == (
        "not finished: its runner ended before the run did;"
        f" `agenttrace resume {by_status['failed']['run_id']}` goes on with it"
    )
    assert (by_status["failed"]["tasks_finished"], by_status["failed"]["tasks_total"]) == (0, 2)

    release(shell.client, of_the_other)
    outcome = other.end()
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["overall_score"] == 100


@pytest.mark.slow
def test_the_next_run_reaps_too(shell: Shell) -> None:
    killed = shell.start_run("agent.py:patient", "-n", "2", "-q")
    left = shell.wait_until_running(2)
    killed.interrupt(signal.SIGKILL)
    killed.end()
    assert shell.run("agent.py:right", "-l", "1", "-q").code == 0
    assert not [name for name in left if state_of(shell.client, name)]
    assert not shell.journals


@pytest.mark.slow
def test_nobody_reads_what_it_says(shell: Shell) -> None:
    """A closed terminal is no reason to stop a run: the evidence is what counts."""
    read, write = os.pipe()
    with subprocess.Popen(
        [*shell.command, "run", "agent.py:patient", "--suite", SUITE, "-l", "1"],
        cwd=shell.directory,
        env=shell.environment,
        stdout=subprocess.DEVNULL,
        stderr=write,
    ) as running:
        os.close(write)
        [name] = shell.wait_until_running()
        os.close(read)
        release(shell.client, name)
        assert running.wait(PATIENCE_SECONDS) == 0
    [run] = shell.runs
    assert json.loads((run / "execution.json").read_bytes())["overall_score"] == 100
