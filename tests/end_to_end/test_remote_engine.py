"""An engine behind TCP, as on another host: no path of ours can be mounted, no cgroup be read."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runner.domain import BenchmarkExecution
from runner.engine import EngineClient

from .shell import Shell

pytestmark = pytest.mark.docker


class Proxy:
    """Passes bytes between a TCP port and a unix socket, half-closed connections included."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listening]
        self.url = f"tcp://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listening.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(str(self._target))
                self._open += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.fixture
def remote(client: EngineClient) -> Iterator[str]:
    """The address of the engine, as if it were far away."""
    path = client.address.socket_path
    if path is None:
        yield client.address.url
        return
    proxy = Proxy(path)
    yield proxy.url
    proxy.close()


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
    assert shell("cleanup", DOCKER_HOST=remote).out == "nothing to remove\n"


def test_the_same_command_without_a_variable(shell: Shell, remote: str) -> None:
    """The address as a setting, which the record of the run names."""
    shell.write("agenttrace.toml", f'[engine]\nhost = "{remote}"\n')
    outcome = shell.run("agent.py:right", "-l", "1", "-q", DOCKER_HOST="tcp://127.0.0.1:1")
    assert outcome.code == 0, outcome.err
    [run] = shell.runs
    assert remote in (run / "config.json").read_text()
