"""Trouble around the gateway: its provider, the engine's connection, the disk, and company."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from runner import ExecutionStatus, TaskExecution, TaskExecutor, load_submission
from runner.config import load_settings
from runner.domain import EventKind, FailureReason
from runner.gateway.session import Session
from runner.images.setup import SetUp
from runner.records import layout
from runner.transport.stream import Stream
from tests.end_to_end.shell import SUITE, Outcome, Shell, wait_until
from tests.integration.proxy import Proxy, Relay

from .calling import (
    MODEL_CALLS,
    TOOL_CALLS,
    assert_calls_whole,
    noted_calls,
    spent_tokens,
)
from .conftest import INFRASTRUCTURE, TASKS, only_run, resume, state_of
from .test_disk_and_clock import LITTLE_IS_ENOUGH, SmallDisk, runs_disk  # noqa: F401 - a fixture
from .upstream import BROKEN, CUT, HELD, TOKENS, WELL, Upstream, busy
from .whole import (
    assert_kept,
    assert_nothing_left,
    assert_resumable,
    assert_whole,
    attempts_of,
    names_in,
)

pytestmark = pytest.mark.docker

TOO_MANY, BAD_GATEWAY = 429, 502
ALPHA = ("-t", "alpha")
NOBODY_SECONDS = 1.5
"""For which nobody listens where a provider was: what is waited for is that nothing comes."""
NO_DELAYS = "[0, 0, 0]"


def run_of(agent: str, *options: str) -> tuple[str, ...]:
    return ("run", f"agent.py:{agent}", "--suite", SUITE, "-n", "1", "-q", "--json", *options)


def attempted(caller: Shell, agent: str, *options: str, **settings: str) -> TaskExecution:
    """What came of one attempt at one task."""
    outcome = caller(*run_of(agent, *ALPHA, *options), **named(settings))
    assert outcome.code == 0, outcome.err
    return judged(caller)


def judged(caller: Shell) -> TaskExecution:
    [one] = assert_whole(only_run(caller), ["alpha"]).task_executions
    assert_calls_whole(only_run(caller))
    return one


def named(settings: dict[str, str]) -> dict[str, str]:
    """`gateway__retries="1"` as a variable."""
    return {f"AGENTTRACE_{name.upper()}": value for name, value in settings.items()}


# -- a provider in trouble -----------------------------------------------------------------------


def test_a_provider_asks_to_wait(caller: Shell, upstream: Upstream) -> None:
    """For longer than the attempt may take: that time is not the agent's."""
    upstream.next(busy(4))
    one = attempted(caller, "one_call", "--time-limit", "3s")
    used = one.resource_usage
    assert (one.status, one.normalized_score) == (ExecutionStatus.COMPLETED, 100)
    assert used.provider_wait_seconds >= 4
    assert used.execution_time_seconds < 3
    [call] = one.model_calls
    assert (call.status, call.retries, len(upstream.asked)) == (200, 1, 2)
    assert call.waited_seconds >= 4
    assert used.model_seconds < call.seconds - 4 + 0.5


@pytest.mark.slow
def test_waiting_is_the_agents_where_it_is_not_excused(caller: Shell, upstream: Upstream) -> None:
    upstream.next(busy(4))
    one = attempted(caller, "one_call", "--time-limit", "3s", gateway__excuse_waits="false")
    assert one.failure_reason is FailureReason.AGENT_TIMEOUT
    assert one.resource_usage.provider_wait_seconds == 0


ALWAYS_BUSY = {
    "one_call": (ExecutionStatus.FAILED, FailureReason.AGENT_ERROR),
    "shrugs": (ExecutionStatus.COMPLETED, None),
}


@pytest.mark.slow
@pytest.mark.parametrize("agent", ALWAYS_BUSY)
def test_a_provider_is_always_busy(caller: Shell, upstream: Upstream, agent: str) -> None:
    """What becomes of it is up to the agent; whose fault it was can be seen of its calls."""
    upstream.always(busy(1))
    one = attempted(caller, agent, gateway__max_wait_seconds="2.5")
    assert (one.status, one.failure_reason) == ALWAYS_BUSY[agent]
    assert {call.status for call in one.model_calls} == {TOO_MANY}
    assert {call.upstream for call in one.model_calls} == {"local"}
    first = one.model_calls[0]
    assert (first.retries, first.refused, first.tokens_input, first.cost_usd) == (2, "", 0, None)
    assert 2 <= one.resource_usage.provider_wait_seconds <= 2.5
    assert sum(call.retries for call in one.model_calls) == 2
    assert not noted_calls(only_run(caller))


def test_a_provider_that_fails_is_left_alone(caller: Shell, upstream: Upstream) -> None:
    """Once the breaker is open calls fail at once, without a request."""
    upstream.always(BROKEN)
    few = {"gateway__retries": "0", "gateway__max_wait_seconds": "1", "breaker__failures": "2"}
    one = attempted(caller, "shrugs", **few)
    assert (one.status, one.normalized_score) == (ExecutionStatus.COMPLETED, 0)
    assert one.output == "500 500 502 502 502 502"
    assert len(upstream.asked) == 2
    assert [call.refused for call in one.model_calls[2:]] == ["upstream_failed"] * 4
    assert not noted_calls(only_run(caller))


@pytest.mark.slow
def test_calls_wait_for_a_provider_that_is_left_alone(caller: Shell, upstream: Upstream) -> None:
    """Where its pause is not too long; that is not the agent's time either."""
    upstream.next(BROKEN, BROKEN)
    few = {"gateway__retries": "0", "breaker__failures": "2", "breaker__open_seconds": "2"}
    one = attempted(caller, "shrugs", **few)
    assert (one.status, one.normalized_score) == (ExecutionStatus.COMPLETED, 100)
    assert [call.status for call in one.model_calls] == [500, 500, 200, 200, 200, 200]
    waited = [call.waited_seconds > 0 for call in one.model_calls]
    assert waited == [False, False, True, False, False, False]
    assert one.resource_usage.provider_wait_seconds > 1


@pytest.mark.slow
def test_a_provider_dies_and_comes_back(caller: Shell, upstream: Upstream) -> None:
    """The call that it took with it is not made again by us: it may have been charged."""
    upstream.next(HELD)
    running = caller.start(*run_of("insists", *ALPHA), AGENTTRACE_GATEWAY__RETRIES="100")
    upstream.wait_for_asked(1)
    upstream.down()
    upstream.release()
    threading.Event().wait(NOBODY_SECONDS)
    upstream.up()
    assert running.end().code == 0
    one = judged(caller)
    assert one.normalized_score == 100
    lost, second = one.model_calls
    assert (lost.status, lost.refused, second.status) == (BAD_GATEWAY, "upstream_failed", 200)
    assert lost.tokens_input > 0
    assert second.retries > 0
    assert one.resource_usage.provider_wait_seconds > 0


@pytest.mark.slow
def test_a_provider_is_slow(caller: Shell, upstream: Upstream) -> None:
    """It says nothing of trouble, so that is the agent's time; what it may charge is noted."""
    upstream.next(HELD)
    one = attempted(caller, "one_call", "--time-limit", "2s")
    assert one.failure_reason is FailureReason.AGENT_TIMEOUT
    [call] = one.model_calls
    assert call.aborted
    assert (call.tokens_input > 0, call.tokens_output) == (True, 0)
    assert 1 < one.resource_usage.model_seconds <= one.resource_usage.execution_time_seconds
    assert one.resource_usage.provider_wait_seconds == 0
    assert spent_tokens(only_run(caller)) == call.tokens_input


@pytest.mark.slow
def test_a_call_takes_too_long(caller: Shell, upstream: Upstream) -> None:
    """It is given up; the agent is told, and goes on."""
    upstream.next(HELD)
    one = attempted(caller, "insists", gateway__call_seconds="1")
    assert one.normalized_score == 100
    assert [call.status for call in one.model_calls] == [BAD_GATEWAY, 200]
    assert spent_tokens(only_run(caller)) == TOKENS + one.model_calls[0].tokens_input


def test_a_stream_breaks_off(caller: Shell, upstream: Upstream) -> None:
    """The agent sees it, and what had come is counted."""
    upstream.always(CUT)
    one = attempted(caller, "one_stream")
    assert one.failure_reason is FailureReason.AGENT_ERROR
    [call] = one.model_calls
    assert (call.status, call.refused, call.streamed) == (200, "upstream_failed", True)
    assert call.tokens_input > 0
    assert spent_tokens(only_run(caller)) == call.tokens_input + call.tokens_output
    assert len(upstream.asked) == 1


# -- the engine's connection, and its distance ---------------------------------------------------


@pytest.fixture
def far(caller: Shell) -> Iterator[Proxy]:
    """The caller's engine is reached by TCP."""
    target = caller.client.address.socket_path
    if target is None:
        pytest.skip("the engine is remote already")
    with Proxy(target) as proxy:
        caller.environment["DOCKER_HOST"] = proxy.url
        yield proxy


@pytest.mark.slow
@pytest.mark.usefixtures("far")
def test_calls_over_a_remote_engine(caller: Shell, upstream: Upstream) -> None:
    assert caller(*run_of("calls", "-n", "3")).code == 0
    assert assert_whole(only_run(caller), TASKS).overall_score == 100
    assert_calls_whole(only_run(caller))
    assert noted_calls(only_run(caller)) == upstream.answered == MODEL_CALLS * len(TASKS)


def test_the_engines_connection_breaks_during_a_call(
    caller: Shell, upstream: Upstream, far: Proxy
) -> None:
    """Nobody is to blame: it is tried again, and what the call used is noted."""
    upstream.next(WELL, HELD)
    running = caller.start(*run_of("calls", *ALPHA), AGENTTRACE_RUN__RETRY_DELAYS=NO_DELAYS)
    upstream.wait_for_asked(2)
    names = names_in(state_of(caller))
    far.drop()
    outcome = running.end()
    upstream.release()
    assert outcome.code == 0, outcome.err
    run = only_run(caller)
    result = assert_whole(run, ["alpha"])
    assert (result.overall_score, result.retried_attempts) == (100, 1)
    first, second = sorted(assert_calls_whole(run), key=lambda one: one.attempt)
    assert first.failure_reason is FailureReason.INTERNAL_ERROR
    assert [call.aborted for call in first.model_calls] == [False, True]
    assert first.model_calls[1].tokens_input > 0
    assert len(second.model_calls) == MODEL_CALLS
    used = [one.resource_usage.tokens_total for one in (first, second)]
    assert spent_tokens(run) == sum(used)
    assert used[1] == TOKENS * MODEL_CALLS
    assert_nothing_left(caller.client, state_of(caller), names, caller.temporary)


class StallingProxy(Proxy):
    """One whose network can stop moving bytes, and go on as if nothing had been."""

    def __init__(self, target: Path) -> None:
        super().__init__(target)
        self.RequestHandlerClass = _Stalling
        self.flowing = threading.Event()
        self.flowing.set()

    def __exit__(self, *exit_: object) -> None:
        self.flowing.set()
        super().__exit__(*exit_)


class _Stalling(Relay):
    server: StallingProxy

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(self.server.target)
            ends = {engine, self.request}
            self.server.open |= ends
            try:
                back = threading.Thread(target=self._move, args=(engine, self.request), daemon=True)
                back.start()
                self._move(self.request, engine)
                back.join()
            finally:
                self.server.open -= ends

    def _move(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self.server.flowing.wait()
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@pytest.mark.slow
def test_the_engines_connection_stalls_during_a_call(caller: Shell, upstream: Upstream) -> None:
    """Until the engine's answers are overdue; the agent, who waited, is not to blame."""
    target = caller.client.address.socket_path
    if target is None:
        pytest.skip("the engine is remote already")
    upstream.next(HELD)
    with StallingProxy(target) as proxy:
        running = caller.start(
            *run_of("calls", *ALPHA, "--time-limit", "4s"),
            DOCKER_HOST=proxy.url,
            AGENTTRACE_RUN__RETRY_DELAYS=NO_DELAYS,
            AGENTTRACE_ENGINE__CALL_SECONDS="3",
        )
        upstream.wait_for_asked(1)
        names = names_in(state_of(caller))
        proxy.flowing.clear()
        upstream.release()
        events = only_run(caller) / layout.EVENTS
        wait_until(lambda: EventKind.TASK_RETRIED.encode() in events.read_bytes())
        proxy.flowing.set()
        outcome = running.end()
    assert outcome.code == 0, outcome.err
    run = only_run(caller)
    assert assert_whole(run, ["alpha"]).overall_score == 100
    first, *_ = sorted(assert_calls_whole(run), key=lambda one: one.attempt)
    assert first.failure_reason is FailureReason.INTERNAL_ERROR
    assert [call.status for call in first.model_calls] == [200]
    assert noted_calls(run) == upstream.answered
    assert_nothing_left(caller.client, state_of(caller), names, caller.temporary)


# -- the disk ------------------------------------------------------------------------------------


LEFT = [0, pytest.param(4096, marks=pytest.mark.slow)]


@pytest.mark.parametrize("left", LEFT)
def test_the_disk_is_full_during_a_call(
    runs_disk: SmallDisk,  # noqa: F811 - the fixture
    caller: Shell,
    upstream: Upstream,
    left: int,
) -> None:
    """The run ends, what was kept is whole, and it goes on when there is room."""
    upstream.next(*[WELL] * (MODEL_CALLS + 1), HELD)
    running = caller.start(*run_of("calls"), **LITTLE_IS_ENOUGH)
    upstream.wait_for_asked(MODEL_CALLS + 2)
    run = only_run(caller)
    before = attempts_of(run)
    runs_disk.fill(left)
    upstream.release()
    outcome = running.end()
    assert outcome.code == INFRASTRUCTURE, outcome.err
    assert "Traceback" not in outcome.err
    assert "no space left" in outcome.error.lower() or "disk is full" in outcome.error
    assert f"agenttrace resume {run.name}" in outcome.next
    assert_kept(run, before)
    assert_resumable(run)
    runs_disk.free()
    again = resume(caller, run, **LITTLE_IS_ENOUGH)
    assert again.code == 0, again.err
    assert assert_whole(run, TASKS, before=before).overall_score == 100
    assert_calls_whole(run, damaged=_torn(run))
    assert upstream.answered - 1 <= noted_calls(run) <= upstream.answered


def _torn(run: Path) -> int:
    """Lines that begin and do not end: one at most, of the moment when there was no room."""
    lines = (run / "spending.jsonl").read_bytes().splitlines()
    torn = sum(not line.endswith(b"}") for line in lines if line)
    assert torn <= 1
    return torn


# -- company -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_runs_at_once(caller: Shell, upstream: Upstream) -> None:
    """Each has its own agents, keys, books and recordings."""
    command = run_of("calls", "-n", "2", "-k", "3")
    outcomes: list[Outcome] = caller.all(command, command)
    assert [one.code for one in outcomes] == [0, 0], [one.err for one in outcomes]
    calls = MODEL_CALLS * len(TASKS) * 3
    for run in caller.runs:
        assert assert_whole(run, TASKS, repeats=3).overall_score == 100
        assert_calls_whole(run)
        assert noted_calls(run) == calls
    assert upstream.answered == calls * len(caller.runs) == calls * 2


SERVER = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from agent import calls

class Agent(BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"output": calls(request["prompt"], request["config"])}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("127.0.0.1", int(sys.argv[1])), Agent).serve_forever()
"""
DOCKERFILE = "ARG BASE_IMAGE=python:3.11-slim\nFROM ${BASE_IMAGE}\nCOPY . /agent/\n"
MANIFEST = """
agent_name = "server"
agent_version = "1.0.0"
terms_accepted = true
[agent_endpoint]
endpoint_type = "container"
dockerfile = "Dockerfile"
interface = "http"
port = {port}
command = ["python3", "/agent/server.py", "{port}"]
"""


@pytest.mark.slow
@pytest.mark.parametrize("port", [8000, 4180])
def test_a_server_calls_models_while_it_answers(
    caller: Shell, upstream: Upstream, made: SetUp, port: int
) -> None:
    """Also one whose own port is where the gateway would be."""
    files = {
        "server.py": SERVER,
        "agent.py": (caller.directory / "agent.py").read_text(),
        "Dockerfile": DOCKERFILE,
        "submission.toml": MANIFEST.format(port=port),
    }
    for name, text in files.items():
        caller.write(f"server/{name}", text)
    outcome = caller("run", "server", "--suite", SUITE, "-q", "--json")
    assert outcome.code == 0, outcome.err
    assert assert_whole(only_run(caller), TASKS).overall_score == 100
    for one in assert_calls_whole(only_run(caller)):
        assert (len(one.model_calls), len(one.tool_calls)) == (MODEL_CALLS, TOOL_CALLS)
    assert noted_calls(only_run(caller)) == upstream.answered


# -- many in one process -------------------------------------------------------------------------


WARM, MANY = 8, 34
"""Repeats, of three tasks each."""
MOST_POOLED = 20
"""Far fewer than there are attempts between the two counts."""


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_nothing_gathers_over_a_hundred_attempts(
    caller: Shell, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither open files nor tasks, threads, sessions or streams; of memory, next to nothing."""
    for name, value in caller.environment.items():
        if name.startswith(("AGENTTRACE_", "XDG_")):
            monkeypatch.setenv(name, value)
    await evaluated(caller, WARM)
    before = Held.now()
    await evaluated(caller, MANY)
    after = Held.now()
    calls = MODEL_CALLS * len(TASKS)
    assert noted_calls(caller.runs[-1]) == calls * MANY
    assert upstream.answered == calls * (WARM + MANY)
    assert after.counts == before.counts
    # Pools of threads grow to their size when many happen to be wanted at once, and not further.
    assert after.threads <= before.threads + MOST_POOLED
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert after.bytes - before.bytes < 16 * 1024**2


async def evaluated(caller: Shell, repeats: int) -> None:
    flags = {"storage.runs_dir": str(caller.directory / "runs"), "run.repeats": repeats}
    settings = load_settings(flags, cwd=caller.directory, environ=caller.environment).settings
    executor = TaskExecutor(settings=settings, suite=str(caller.directory / SUITE))
    submission = load_submission(f"{caller.directory}/agent.py:calls")
    made = await executor.execute_benchmark(submission, parallelism=4)
    assert made.overall_score == 100


class Held:
    """What this process holds."""

    def __init__(self, counts: dict[str, Any], memory: int) -> None:
        self.counts = counts
        self.threads = threading.active_count()
        self.bytes = memory

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        objects = gc.get_objects()
        counts = {
            "files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
            "tasks": len(asyncio.all_tasks()),
            "sessions": sum(isinstance(each, Session) for each in objects),
            "streams": sum(isinstance(each, Stream) for each in objects),
        }
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(counts, pages * os.sysconf("SC_PAGE_SIZE"))
