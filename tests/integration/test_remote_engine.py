"""The same attempts on an engine that is far away: no host path, no pid and no cgroup of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.domain import Attempt, EndingKind, HttpInterface, Limits
from runner.engine import EngineClient, locate_engine
from runner.errors import InfrastructureError
from runner.evaluation.verdict import judge
from runner.images.setup import SetUp, find_set_up
from runner.sandbox import cgroup
from tests.integration.conftest import MIB, Lab, lab_on, when_running
from tests.integration.outcomes import OUTCOMES, SMALL
from tests.integration.proxy import Proxy

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def proxy(engine: EngineClient) -> Iterator[Proxy]:
    if engine.address.socket_path is None:
        pytest.skip("the engine is remote already")
    with Proxy(engine.address.socket_path) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def far(proxy: Proxy) -> Iterator[EngineClient]:
    """Found by DOCKER_HOST, as a user would name it."""
    with EngineClient(locate_engine("", {"DOCKER_HOST": proxy.url})) as client:
        yield client


@pytest.fixture
def far_lab(
    far: EngineClient, ready: SetUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Lab]:
    """Whoever looks at a cgroup or a process of this host fails the test."""

    def never(*_: object) -> Any:
        raise AssertionError("a remote engine's pids are not this host's")

    monkeypatch.setattr("runner.sandbox.session.find_cgroup", never)
    monkeypatch.setattr(cgroup.os, "pidfd_open", never)
    yield from lab_on(far, ready, tmp_path)


def measured_from_afar(made: Attempt) -> None:
    measured = made.measurement
    assert measured
    if measured.cgroup_version == 1:
        expected = ("engine_stats", "stats_max_usage")
        assert (measured.read_from, measured.memory_peak_source) == expected
    else:
        assert measured.read_from in ("shim_cgroup", "engine_stats")
        assert measured.memory_peak_source in ("cgroup_peak", "sampled")


async def test_it_is_set_up_as_seen_from_afar(far: EngineClient, ready: SetUp) -> None:
    assert far.address.socket_path is None
    assert far.address.origin == "DOCKER_HOST"
    assert await find_set_up(far) == ready


@pytest.mark.parametrize("name", OUTCOMES)
@pytest.mark.slow
async def test_an_outcome(far_lab: Lab, name: str) -> None:
    outcome = OUTCOMES[name]
    made = await far_lab.run(far_lab.python(outcome.source), outcome.limits)
    verdict = judge(made)
    assert (made.reply.ending.kind, verdict.status, verdict.reason) == (
        *(outcome.kind, outcome.status, outcome.reason),
    )
    assert outcome.detail in verdict.detail
    assert made.agent_confirmed_dead
    measured_from_afar(made)


async def test_a_server(far_lab: Lab) -> None:
    source = (
        "import http.server, json\n"
        "class Agent(http.server.BaseHTTPRequestHandler):\n"
        " def do_POST(self):\n"
        "  body = json.dumps({'output': 'x' * 40_000}).encode()\n"
        "  self.send_response(200); self.send_header('Content-Length', str(len(body)))\n"
        "  self.end_headers(); self.wfile.write(body)\n"
        "http.server.HTTPServer(('127.0.0.1', 8000), Agent).serve_forever()\n"
    )
    interface = HttpInterface(command=("python3", "-I", "-c", source), port=8000)
    made = await far_lab.run(far_lab.image(interface), text="y" * 90_000)
    assert (made.reply.ending.kind, made.reply.output) == (EndingKind.ANSWERED, "x" * 40_000)


async def test_figures_from_afar(far_lab: Lab) -> None:
    source = (
        "import time\nb = bytearray(100 << 20)\nfor i in range(0, len(b), 4096): b[i] = 1\n"
        "while time.process_time() < 0.5: pass\nprint(time.process_time(), end='')"
    )
    made = await far_lab.run(
        far_lab.python(source), Limits(time_seconds=60, memory_bytes=256 * MIB, cpus=0.5)
    )
    measured_from_afar(made)
    assert made.measurement
    assert 100 * MIB <= made.measurement.memory_peak_bytes < 125 * MIB
    own = float(made.reply.output)
    # the engine gives user and system time in ticks of 10 ms each on version 1
    assert own - 0.05 <= made.measurement.cpu_seconds <= made.reply.wall_seconds + 0.1
    assert made.measurement.cpu_throttled_seconds > 0


async def test_artifacts_come_over_the_same_connection(far_lab: Lab) -> None:
    made = await far_lab.run(far_lab.shell("seq 100000 > /output/numbers; printf ok"))
    assert (made.artifacts[0].path, made.artifacts[0].size_bytes) == ("numbers", 588_895)
    assert (far_lab.artifacts / "numbers").stat().st_size == 588_895


async def test_a_network_that_fails_is_not_the_agents_fault(far_lab: Lab, proxy: Proxy) -> None:
    run = asyncio.create_task(far_lab.run(far_lab.shell("exec sleep 98765")))
    await when_running(far_lab, "sleep 98765")
    proxy.drop()
    with pytest.raises(InfrastructureError, match="connection|engine"):  # noqa: RUF043
        judge(await run)


async def test_an_attempt_cancelled_leaves_nothing(far_lab: Lab) -> None:
    run = asyncio.create_task(far_lab.run(far_lab.shell("exec sleep 98765"), SMALL))
    await when_running(far_lab, "sleep 98765")
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert far_lab.containers() == []
