"""The example of a remote agent, started as its comment says, asked as its manifest says."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runner.bootstrap.remote import remote_policy_of
from runner.config import load_settings
from runner.domain import AgentEndpoint, EndingKind, Limits, Prompt
from runner.intake import load_submission
from runner.transport.remote import RemoteAgent, RemotePolicy, reach

EXAMPLE = Path(__file__).parents[2] / "examples/remote_http"
TOKEN = "a-token-for-this-test"
PROMPT = Prompt(task_id="t", text="What is 6 times 7?")
ALLOWED = {
    "AGENTTRACE_REMOTE__ALLOW_ADDRESSES": "127.0.0.1/32",
    "AGENTTRACE_REMOTE__ALLOW_PLAIN_HTTP": "true",
}


@asynccontextmanager
async def server() -> AsyncIterator[int]:
    """The port of the example's server."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLE / "server.py"),
        "0",
        env={"AGENT_TOKEN": TOKEN},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout
    try:
        line = await process.stdout.readline()
        yield int(line.rpartition(b":")[2])
    finally:
        process.kill()
        await process.communicate()


def policy(token: str = TOKEN) -> RemotePolicy:
    settings = load_settings({}, cwd=Path("/nonexistent"), environ=ALLOWED).settings
    return remote_policy_of(settings, {"AGENT_TOKEN": token})


def endpoint(port: int) -> AgentEndpoint:
    given = load_submission(str(EXAMPLE)).agent_endpoint
    assert given.url
    return given.model_copy(update={"url": given.url.replace(":8000", f":{port}")})


@pytest.mark.parametrize(
    ("token", "kind", "output"),
    [(TOKEN, EndingKind.ANSWERED, "42"), ("another token", EndingKind.CRASHED, "")],
)
async def test_the_example(token: str, kind: EndingKind, output: str, tmp_path: Path) -> None:
    async with server() as port:
        assert "reached 127.0.0.1" in await reach(endpoint(port), policy(token))
        agent = RemoteAgent(endpoint(port), policy(token))
        made = await agent.attempt(PROMPT, {"seed": 1}, Limits(time_seconds=20), tmp_path)
    assert (made.reply.ending.kind, made.reply.output) == (kind, output), made.reply.ending
    assert (kind is EndingKind.ANSWERED) == (made.reply.ending.detail == "")


async def test_many_at_once(tmp_path: Path) -> None:
    async with server() as port:
        agent = RemoteAgent(endpoint(port), policy())
        prompts = [Prompt(task_id=f"t{n}", text=f"What is {n} plus 1?") for n in range(20)]
        limits = Limits(time_seconds=30)
        made = await asyncio.gather(
            *(agent.attempt(prompt, {}, limits, tmp_path) for prompt in prompts)
        )
    assert [(one.task_id, one.reply.output or one.reply.ending) for one in made] == [
        (f"t{n}", str(n + 1)) for n in range(20)
    ]
