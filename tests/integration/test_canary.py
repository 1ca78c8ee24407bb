"""An answer key never enters a container: neither its files, environment, arguments nor channel."""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runner import ExecutionStatus, TaskExecution, TaskExecutor, load_submission
from runner.config import load_settings
from runner.sandbox import DockerSandbox
from runner.sandbox.channel import AttachedChannel

pytestmark = [pytest.mark.docker, pytest.mark.adversarial]

SEARCH = Path(__file__).parents[1] / "adversarial/canary_search/agent.py"
MANIFEST = """
agent_name = "seeker"
agent_version = "1.0.0"
terms_accepted = true
[agent_endpoint]
"""
DOCKERFILE = """
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}
COPY *.py /agent/
"""
AROUND = '''
import contextlib, io, os, sys
SOURCE = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "search.py")).read()

def search(received):
    """The same program, with `received` for its stdin."""
    sys.stdin, out = io.TextIOWrapper(io.BytesIO(received)), io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(SOURCE, "search.py", "exec"), {})
    return out.getvalue()
'''
FUNCTION = (
    AROUND
    + """
def answer(prompt, config):
    return search(repr((prompt, config)).encode())
"""
)
SERVER = (
    AROUND
    + """
import json
from http.server import BaseHTTPRequestHandler, HTTPServer

class Agent(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        output = search(f"{self.requestline}{self.headers}{self.client_address}".encode() + body)
        body = json.dumps({"output": output}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("127.0.0.1", 8000), Agent).serve_forever()
"""
)


def canary() -> str:
    return f"CANARY-{secrets.token_hex(16)}"


@dataclass
class Wire:
    """All that the host hands to containers."""

    sent: bytearray = field(default_factory=bytearray)
    inspected: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    """Everything written to any channel, and every container as the engine describes it."""
    wire = Wire()
    write, start = AttachedChannel.write, DockerSandbox._start

    async def recording_write(self: AttachedChannel, data: bytes) -> None:
        wire.sent += data
        await write(self, data)

    def recording_start(self: DockerSandbox, *arguments: Any) -> Any:
        started = start(self, *arguments)
        wire.inspected.append(started.inspected)
        return started

    monkeypatch.setattr(AttachedChannel, "write", recording_write)
    monkeypatch.setattr(DockerSandbox, "_start", recording_start)
    return wire


def make_suite(directory: Path, key: str, planted: str) -> Path:
    """Two tasks: `blind`, and `control` with a canary in its prompt; `key` answers both."""
    directory.mkdir()
    (directory / "suite.toml").write_text(
        f'format = 1\nname = "canaries"\nversion = "1"\ndescription = "{key}"\n'
    )
    task = """
[[task]]
task_id = "{name}"
name = "{name} {key}"
subcategory = "{key}"
prompt = "{prompt}"
[[task.criteria]]
name = "word"
scorer = "exact"
expected = "{key}"
[[task.criteria]]
name = "pattern"
scorer = "regex"
match = "search"
pattern = "the word is {key}"
[[task.criteria]]
name = "document"
scorer = "json_subset"
expected = {{ word = "{key}" }}
"""
    prompts = {"blind": "What is the secret word?", "control": f"The word is {planted}. Find it."}
    (directory / "grounding.toml").write_text(
        "".join(task.format(name=n, key=key, prompt=p) for n, p in prompts.items())
    )
    return directory


def make_submission(directory: Path, interface: str) -> Path:
    directory.mkdir()
    (directory / "search.py").write_text(SEARCH.read_text())
    if interface == "function":
        (directory / "agent.py").write_text(FUNCTION)
        endpoint = 'endpoint_type = "local"\nmodule_path = "agent"\nfunction_name = "answer"\n'
    else:
        (directory / "agent.py").write_text(SERVER)
        (directory / "Dockerfile").write_text(DOCKERFILE)
        program = "agent.py" if interface == "http" else "search.py"
        endpoint = (
            f'endpoint_type = "container"\ndockerfile = "Dockerfile"\ninterface = "{interface}"\n'
            f'command = ["python3", "/agent/{program}"]\n'
        )
    (directory / "submission.toml").write_text(MANIFEST + endpoint)
    return directory


@pytest.mark.parametrize("interface", ["function", "stdio", "http"])
def test_no_answer_key_reaches_an_agent(
    tmp_path: Path, wire: Wire, monkeypatch: pytest.MonkeyPatch, interface: str
) -> None:
    key, planted, of_the_host = canary(), canary(), canary()
    monkeypatch.setenv("SECRET_OF_THE_HOST", of_the_host)
    tasks, run = evaluate(tmp_path, interface, key, planted)

    assert {name: found(one) for name, one in tasks.items()} == {
        "blind": set(),
        "control": {planted},  # so it does see what is there
    }
    assert {one.normalized_score for one in tasks.values()} == {0.0}
    assert planted.encode() in wire.sent  # so everything sent is seen
    assert len(wire.inspected) >= 2
    handed_over = bytes(wire.sent) + json.dumps(wire.inspected).encode()
    for secret in (key, of_the_host):
        assert secret.encode() not in handed_over
    assert of_the_host not in everything_below(run)


def evaluate(
    tmp_path: Path, interface: str, key: str, planted: str
) -> tuple[dict[str, TaskExecution], Path]:
    """Both tasks by name, and the directory of the run."""
    loaded = load_settings({}, cwd=tmp_path, environ={})
    storage = loaded.settings.storage.model_copy(update={"runs_dir": tmp_path / "runs"})
    limits = loaded.settings.limits.model_copy(update={"time_seconds": 60.0})
    executor = TaskExecutor(
        enable_retries=False,
        suite=str(make_suite(tmp_path / "suite", key, planted)),
        settings=loaded.settings.model_copy(update={"storage": storage, "limits": limits}),
    )
    submission = load_submission(str(make_submission(tmp_path / "submission", interface)))
    execution = asyncio.run(executor.execute_benchmark(submission, parallelism=2))
    assert executor.last_run
    return {one.task_id: one for one in execution.task_executions}, executor.last_run


def found(execution: TaskExecution) -> set[str]:
    """What the agent says it found; it did search."""
    assert execution.status is ExecutionStatus.COMPLETED, execution.failure_detail
    report = json.loads(execution.output)
    assert report["searched_bytes"] > 10_000_000
    return set(report["found"])


def everything_below(directory: Path) -> str:
    return "".join(p.read_text(errors="replace") for p in directory.rglob("*") if p.is_file())
