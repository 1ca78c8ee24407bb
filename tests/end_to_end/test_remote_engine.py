"""An engine behind TCP, as on another host: no path of ours can be mounted, no cgroup be read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runner.domain import BenchmarkExecution
from runner.engine import EngineClient
from tests.integration.proxy import Proxy

from .shell import Shell

pytestmark = pytest.mark.docker


@pytest.fixture
def remote(client: EngineClient) -> Iterator[str]:
    """The address of the engine, as if it were far away."""
    path = client.address.socket_path
    if path is None:
        yield client.address.url
        return
    with Proxy(path) as proxy:
        yield proxy.url


def test_a_run_on_a_remote_engine(shell: Shell, remote: str) -> None:
    outcome = shell.run("agent.py:right", "--json", DOCKER_HOST=remote)
    assert outcome.code == 0, outcome.err
    execution = BenchmarkExecution.model_validate_json(outcome.out)
    assert execution.overall_score == 100
    for task in execution.task_executions:
        assert task.measurement
        assert task.measurement.read_from in ("engine_stats", "shim_cgroup")
        usage = task.resource_usage
        assert usage.memory_peak_source in ("cgroup_peak", "stats_max_usage", "sampled")
        assert 1 < usage.memory_peak_mb < 512
        assert task.agent_confirmed_dead


@pytest.mark.slow
def test_the_same_command_without_a_variable(shell: Shell, remote: str) -> None:
    """The address as a setting, which the record of the run names."""
    shell.write("agenttrace.toml", f'[engine]\nhost = "{remote}"\n')
    outcome = shell.run("agent.py:right", "-l", "1", "-q", DOCKER_HOST="tcp://127.0.0.1:1")
    assert outcome.code == 0, outcome.err
    [run] = shell.runs
    assert remote in (run / "config.json").read_text()
