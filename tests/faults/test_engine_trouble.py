"""The engine stops, dies, stalls, or answers nobody: no verdict is lost, no container is left."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner.domain import BenchmarkExecution
from runner.engine import EngineClient
from runner.images.setup import SetUp
from tests.end_to_end.shell import PATIENCE_SECONDS, Outcome, Shell, wait_until

from .conftest import (
    INFRASTRUCTURE,
    TASKS,
    all_released,
    in_second_task,
    only_run,
    resume,
    shell_on,
    start_tiny,
    state_of,
)
from .engine import Fault, FaultyNetwork, How, PrivateEngine
from .whole import (
    assert_nothing_left,
    assert_resumable,
    assert_whole,
    attempts_of,
    containers_of,
    names_in,
)

pytestmark = pytest.mark.docker

NO_DELAYS = "[0, 0, 0]"
CALL_SECONDS = "4"


# -- stopped and killed --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def private(client: EngineClient, made: SetUp) -> Iterator[PrivateEngine]:
    with PrivateEngine(client, made) as engine:
        yield engine


@pytest.fixture
def far(private: PrivateEngine, tmp_path: Path) -> Iterator[Shell]:
    """A shell that uses the private engine, which is empty afterwards."""
    volumes = private.volumes()
    with EngineClient(private.address) as client, shell_on(client, tmp_path) as shell:
        shell.environment["DOCKER_HOST"] = private.url
        yield shell
        assert private.containers() == []
        assert private.volumes() == volumes


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_engine_is_gone(far: Shell, private: PrivateEngine, number: signal.Signals) -> None:
    running = in_second_task(far, AGENTTRACE_RUN__RETRY_DELAYS=NO_DELAYS)
    run, names = only_run(far), names_in(state_of(far))
    private.end(number)
    outcome = running.end()
    assert outcome.code == INFRASTRUCTURE, outcome
    assert f"agenttrace resume {run.name}" in outcome.next
    before = attempts_of(run)
    assert_resumable(run)
    assert resume(far, run).code == INFRASTRUCTURE  # it is still gone
    assert attempts_of(run) == before

    private.start()
    with all_released(far):
        outcome = resume(far, run)
    assert outcome.code == 0, outcome.err
    result = assert_whole(run, TASKS, before=before)
    assert result.overall_score == 100
    assert_nothing_left(far.client, state_of(far), names, far.temporary)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_engine_is_back_in_time(
    far: Shell, private: PrivateEngine, number: signal.Signals
) -> None:
    """The attempt that it took with it is not the agent's failure; the run goes on by itself."""
    running = in_second_task(far, AGENTTRACE_RUN__RETRY_DELAYS="[0, 10, 10]")
    run, names = only_run(far), names_in(state_of(far))
    private.end(number)
    private.start()
    with all_released(far):
        outcome = running.end()
    assert outcome.code == 0, outcome.err
    result = assert_whole(run, TASKS)
    assert result.overall_score == 100
    assert result.retried_attempts == 1
    assert_nothing_left(far.client, state_of(far), names, far.temporary)


# -- a way to the engine that fails --------------------------------------------------------------


@pytest.fixture
def through(shell: Shell) -> Through:
    """Makes the shell's commands reach the engine by a way on which these faults happen."""
    target = shell.client.address.socket_path
    if target is None:
        pytest.skip("the engine is remote")
    return Through(shell, target)


@dataclass
class Through:
    """A shell, and the engine behind a faulty way."""

    shell: Shell
    target: Path

    def run(self, *faults: Fault) -> Outcome:
        """A run of the small suite, one task after the other, on that way."""
        with FaultyNetwork(self.target, *faults) as network:
            outcome = self.shell.run(
                *("agent.py:right", "-n", "1", "-q", "--json"),
                DOCKER_HOST=network.url,
                AGENTTRACE_ENGINE__CALL_SECONDS=CALL_SECONDS,
                AGENTTRACE_RUN__RETRY_DELAYS=NO_DELAYS,
            )
        assert all(fault.struck.is_set() for fault in faults)
        return outcome


CREATE = r"^POST /containers/create"
START = r"^POST /containers/[^/]+/start"
ATTACH = r"^POST /containers/[^/]+/attach"
WAIT = r"^POST /containers/[^/]+/wait"
REMOVE = r"^DELETE /containers/"
SECOND_TASK = 3
"""The number of its requests: a container was started before the first task, too."""

RETRIED = {
    "create stalls": (CREATE, How.NEVER),
    "create is done, and its reply lost": (CREATE, How.REPLY_LOST),
    "create comes late": (CREATE, How.LATE),
    "attach stalls": (ATTACH, How.NEVER),
    "start stalls": (START, How.NEVER),
    "start is done, and its reply lost": (START, How.REPLY_LOST),
    "remove stalls": (REMOVE, How.NEVER),
    "remove is done, and its reply lost": (REMOVE, How.REPLY_LOST),
}
FAST = ("create comes late",)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in RETRIED]
)
def test_the_attempt_is_retried(through: Through, name: str) -> None:
    request, how = RETRIED[name]
    shell = through.shell
    outcome = through.run(Fault(request, SECOND_TASK, how))
    assert outcome.code == 0, outcome.err
    result = assert_whole(only_run(shell), TASKS)
    assert (result.retried_attempts, result.overall_score) == (1, 100)
    if name == "create stalls":  # it may yet come: whoever runs next looks once more
        assert len(names_in(state_of(shell))) == 1
        assert start_tiny(shell, "right", "-l", "1").code == 0
    assert_nothing_left(shell.client, state_of(shell), of_runners(result), shell.temporary)


@pytest.mark.slow
def test_nobody_waits_for_a_container_that_does_not_end(through: Through) -> None:
    """It is killed then; the answer had come."""
    outcome = through.run(Fault(WAIT, SECOND_TASK, How.NEVER))
    assert outcome.code == 0, outcome.err
    result = assert_whole(only_run(through.shell), TASKS)
    assert (result.retried_attempts, result.overall_score) == (0, 100)


@pytest.mark.slow
def test_the_last_create_of_a_run_comes_late(through: Through) -> None:
    """After its runner has ended: the journal knows the name, and the next runner removes it."""
    shell = through.shell
    late = Fault(CREATE, LAST_TRY, How.LATE)
    outcome = through.run(Fault(CREATE, 4, How.NEVER), Fault(CREATE, 5, How.NEVER), late)
    assert outcome.code == INFRASTRUCTURE, outcome.err
    run = only_run(shell)
    left = containers_of(shell.client, state_of(shell), names_in(state_of(shell)))
    assert len(left) == 1
    assert set(left) <= set(names_in(state_of(shell)))
    before = attempts_of(run)
    outcome = resume(shell, run)
    assert outcome.code == 0, outcome.err
    result = assert_whole(run, TASKS, before=before)
    assert (result.retried_attempts, result.overall_score) == (3, 100)
    assert_nothing_left(shell.client, state_of(shell), left, shell.temporary)


LAST_TRY = 6
"""One container before the first task, one for each of the first two, three for the last."""


def of_runners(result: BenchmarkExecution) -> list[str]:
    """The containers of its attempts."""
    return [one.sandbox.container_name for one in result.task_executions if one.sandbox]


@pytest.mark.slow
def test_killed_with_a_create_under_way(through: Through) -> None:
    """Its container comes into being when its runner is dead, and another has reaped."""
    shell, late = through.shell, Fault(CREATE, SECOND_TASK, How.HELD)
    with FaultyNetwork(through.target, late) as network:
        running = shell.start_run("agent.py:right", "-n", "1", "-q", DOCKER_HOST=network.url)
        assert late.struck.wait(PATIENCE_SECONDS)
        running.interrupt(signal.SIGKILL)
        running.end()
        run, names = only_run(shell), names_in(state_of(shell))
        before = attempts_of(run)
        assert resume(shell, run).code == 0
        late.over.set()
        wait_until(lambda: containers_of(shell.client, state_of(shell), names))
    assert_whole(run, TASKS, before=before)
    assert start_tiny(shell, "right", "-l", "1").code == 0
    assert_nothing_left(shell.client, state_of(shell), names, shell.temporary)
