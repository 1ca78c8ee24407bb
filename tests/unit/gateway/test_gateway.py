"""The whole room, from bytes of an agent's connection to what its attempt is judged by."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from runner.domain import (
    AnswerKey,
    BenchmarkCategory,
    BenchmarkTask,
    Budget,
    BudgetKind,
    ExactCriterion,
    Limits,
    Prompt,
    Spending,
)
from runner.errors import StorageFailed
from runner.gateway.counting import TokenCounter
from runner.gateway.exchanges import load_exchanges
from runner.gateway.gateway import GatewayPolicy, ModelGateway
from runner.gateway.ledger import Ledger
from runner.gateway.prices import Prices
from runner.gateway.replay import Recording
from runner.gateway.session import Session
from runner.gateway.upstreams.script import Rule, Script
from runner.gateway.upstreams.scripted import ScriptedUpstream, load_script
from runner.ports import Connection, Gateway
from tests.unit.gateway.connections import MemoryConnection, listening

MODEL = "agenttrace/scripted"
CALCULATION = [{"role": "user", "content": "What is 6*7?"}]
LONG = Script(rule=(Rule(reply="x" * 1_000_000, chunk_count=1000),))


def task(**more: Any) -> BenchmarkTask:
    return BenchmarkTask(
        task_id="t",
        category=BenchmarkCategory.TOOL_USE,
        name="t",
        prompt=Prompt(task_id="t", text="?", tools=("calculator",)),
        answer_key=AnswerKey(criteria=(ExactCriterion(expected="42"),)),
        **more,
    )


class World:
    """A gateway, and agents without containers."""

    def __init__(self, exchanges: Path, script: Script | None = None, **more: Any) -> None:
        self.exchanges = exchanges
        self.spendings: list[Spending] = []
        policy = more.pop("policy", {})
        self._make: Callable[[int], ModelGateway] = lambda port: ModelGateway(
            GatewayPolicy(models=("agenttrace/*",), ports=(port,), **policy),
            own_upstreams=lambda: [ScriptedUpstream(script or load_script(), TokenCounter())],
            prices=lambda: Prices({}),
            on_spending=self.spendings.append,
            **more,
        )

    def gateway(self, port: int = 4180) -> ModelGateway:
        return self._make(port)

    @asynccontextmanager
    async def attempt(
        self, *, limits: Limits | None = None, **of_task: Any
    ) -> AsyncIterator[tuple[Session, httpx.AsyncClient]]:
        """A session whose agent has real sockets."""
        sessions: list[Session] = []

        async def serve(connection: Connection) -> None:
            await sessions[0].serve(connection)

        async with listening(serve) as port:
            gateway: Gateway = self.gateway(port)
            opened = gateway.open(task(**of_task), 1, limits or Limits(), self.exchanges)
            async with opened as access:
                assert isinstance(access, Session)
                sessions.append(access)
                base = access.environment["OPENAI_BASE_URL"].replace(
                    "{url}", f"http://127.0.0.1:{port}"
                )
                bearer = {"Authorization": f"Bearer {access.environment['OPENAI_API_KEY']}"}
                async with httpx.AsyncClient(
                    base_url=base.removesuffix("/v1"), headers=bearer, timeout=30
                ) as client:
                    yield access, client


@pytest.fixture
def exchanges(tmp_path: Path) -> Path:
    return tmp_path / "exchanges.jsonl"


@pytest.fixture
def world(exchanges: Path) -> World:
    return World(exchanges)


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What is logged is a bug of ours that one request met."""
    yield
    assert [record.getMessage() for record in caplog.get_records("call")] == []


async def chat(client: httpx.AsyncClient, **more: Any) -> httpx.Response:
    body = {"model": MODEL, "messages": CALCULATION, **more}
    return await client.post("/v1/chat/completions", json=body)


# -- what an agent does ----------------------------------------------------------------------------


async def test_an_agent_calls_a_model_and_a_tool(world: World, exchanges: Path) -> None:
    async with world.attempt() as (session, client):
        tools = (await client.get("/tools?format=openai")).json()["tools"]
        asked = (await chat(client, tools=tools)).json()
        call = asked["choices"][0]["message"]["tool_calls"][0]["function"]
        arguments = json.loads(call["arguments"])
        result = (await client.post(f"/tools/{call['name']}", json=arguments)).json()
        assert result["error"] == ""
        use = session.use()
    assert [each.number for each in use.model_calls] == [1]
    assert [(each.number, each.name, each.succeeded) for each in use.tool_calls] == [
        (2, "calculator", True)
    ]
    assert "42" in json.dumps(result)
    assert use.tokens_input == asked["usage"]["prompt_tokens"] > 0
    assert use.tokens_output == asked["usage"]["completion_tokens"] > 0
    assert use.cost_usd == 0
    assert use.model_seconds > 0
    assert [each.kind for each in load_exchanges(exchanges)] == ["model", "tool"]
    [spending] = world.spendings
    assert (spending.task_id, spending.tokens_input) == ("t", use.tokens_input)


async def test_an_agent_reads_a_stream(world: World) -> None:
    async with world.attempt() as (session, client):
        said = await chat(client, stream=True)
        use = session.use()
    assert said.headers["content-type"].startswith("text/event-stream")
    assert said.text.endswith("data: [DONE]\n\n")
    [call] = use.model_calls
    assert (call.streamed, call.aborted, call.status) == (True, False, 200)


async def test_an_agent_of_anthropics_kind_is_understood(world: World) -> None:
    async with world.attempt() as (session, client):
        client.headers.pop("authorization")
        said = await client.post(
            "/v1/messages",
            json={"model": MODEL, "max_tokens": 100, "messages": CALCULATION},
            headers={"x-api-key": session.key, "anthropic-version": "2023-06-01"},
        )
    assert said.json()["type"] == "message"


async def test_models_and_budget_are_told(world: World) -> None:
    async with world.attempt(token_budget=1000) as (_, client):
        listed = (await client.get("/v1/models")).json()["data"]
        left = (await client.get("/budget")).json()
    assert listed == []  # the pattern has a wildcard: no name is known
    assert left == {
        "tokens_left": 1000,
        "cost_usd_left": None,
        "model_calls_left": Limits().model_calls,
        "tool_calls_left": Limits().tool_calls,
    }


async def test_an_mcp_client_finds_the_tools(world: World) -> None:
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    async with world.attempt() as (_, client):
        said = await client.post("/mcp", json=request)
    assert [tool["name"] for tool in said.json()["result"]["tools"]] == ["calculator"]


async def test_a_hundred_streams_at_once_are_all_counted(world: World) -> None:
    async with world.attempt() as (session, client):
        said = await asyncio.gather(*(chat(client, stream=True) for _ in range(100)))
        use = session.use()
    assert all(each.text.endswith("data: [DONE]\n\n") for each in said)
    assert sorted(each.number for each in use.model_calls) == list(range(1, 101))
    assert len(world.spendings) == 100


# -- budgets ---------------------------------------------------------------------------------------


async def test_over_its_token_budget_the_agent_is_told_and_the_attempt_is_over(
    world: World,
) -> None:
    async with world.attempt(token_budget=60) as (session, client):
        statuses = [(await chat(client, max_tokens=10)).status_code for _ in range(5)]
        refused = await chat(client, max_tokens=10)
        await session.over()
        use = session.use()
    assert statuses[0] == 200
    assert refused.status_code == 429
    assert refused.headers["x-should-retry"] == "false"
    assert refused.json()["error"]["code"] == "budget_exceeded"
    assert use.over_budget is BudgetKind.TOKENS
    assert use.tokens_input + use.tokens_output <= 60


async def test_over_the_runs_budget_there_is_no_verdict(exchanges: Path) -> None:
    world = World(exchanges, ledger=Ledger(Budget(tokens=5)))
    async with world.attempt() as (session, client):
        assert (await chat(client)).status_code == 429
        await session.over()
        assert session.use().spent_out
        assert session.use().over_budget is None


async def test_calls_beyond_their_number_are_refused_and_the_attempt_goes_on(
    world: World,
) -> None:
    async with world.attempt(limits=Limits(model_calls=2, tool_calls=1)) as (session, client):
        said = [await chat(client) for _ in range(3)]
        tools = [await client.post("/tools/calculator", json={"expression": "1"}) for _ in "ab"]
        assert session.use().over_budget is None
    assert [each.status_code for each in said] == [200, 200, 429]
    assert said[2].json()["error"]["code"] == "model_calls_exceeded"
    assert [each.status_code for each in tools] == [200, 429]
    assert tools[1].json()["error"]["code"] == "tool_calls_exceeded"


# -- hostile agents, and our own trouble -----------------------------------------------------------


async def test_another_attempts_key_is_refused(world: World) -> None:
    async with world.attempt() as (_, client), world.attempt() as (other, _):
        client.headers["authorization"] = f"Bearer {other.key}"
        assert (await chat(client)).status_code == 401


def streaming(session: Session) -> bytes:
    body = json.dumps({"model": MODEL, "messages": CALCULATION, "stream": True}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost:4180\r\n"
        f"Authorization: Bearer {session.key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def test_a_stream_whose_agent_goes_away_is_settled_as_aborted(exchanges: Path) -> None:
    gateway = World(exchanges, LONG).gateway()
    async with gateway.open(task(), 1, Limits(), exchanges) as session:
        agent = MemoryConnection(window=1000)
        serving = asyncio.create_task(session.serve(agent))
        await agent.send(streaming(session))
        await agent.receive(b"data: ")
        await agent.leave()
        await serving
        [call] = session.use().model_calls
    assert call.aborted
    assert call.tokens_input > 0
    assert call.token_source is not None


async def test_what_is_under_way_at_the_attempts_end_is_settled(exchanges: Path) -> None:
    gateway = World(exchanges, LONG).gateway()
    async with gateway.open(task(), 1, Limits(), exchanges) as session:
        agents = [MemoryConnection(window=1000) for _ in range(5)]
        serving = [asyncio.create_task(session.serve(agent)) for agent in agents]
        for agent in agents:
            await agent.send(streaming(session))
            await agent.receive(b"data: ")
    await asyncio.gather(*serving)
    assert [call.aborted for call in session.use().model_calls] == [True] * 5
    assert all(agent.closed for agent in agents)
    assert len(list(load_exchanges(exchanges))) == 5


async def test_what_cannot_be_recorded_is_no_verdict(tmp_path: Path) -> None:
    world = World(tmp_path / "not there" / "exchanges.jsonl")

    async def attempt() -> int:
        async with world.attempt() as (session, client):
            status = (await chat(client)).status_code
            await session.over()
        return status

    with pytest.raises(StorageFailed, match="not there"):
        await attempt()


async def test_nothing_is_written_where_nothing_is_to_be_kept(exchanges: Path) -> None:
    world = World(exchanges, policy={"record": False})
    async with world.attempt() as (_, client):
        assert (await chat(client)).status_code == 200
    assert list(load_exchanges(exchanges)) == []


# -- replay ----------------------------------------------------------------------------------------


async def test_a_recording_answers_the_same_and_tells_where_it_diverges(
    world: World, exchanges: Path, tmp_path: Path
) -> None:
    async with world.attempt() as (_, client):
        recorded = await chat(client)
    replay = World(
        tmp_path / "replayed.jsonl",
        Script(rule=(Rule(reply="something else"),)),
        recordings=lambda task_id, repeat: Recording(load_exchanges(exchanges)),
    )
    async with replay.attempt() as (session, client):
        assert (await chat(client)).content == recorded.content
        assert session.use().divergence is None
        diverged = await chat(client, temperature=0.5)
        assert diverged.json()["error"]["code"] == "replay_diverged"
        use = session.use()
    assert use.divergence is not None
    assert use.divergence.number == 2
    assert use.model_calls[0].cached


# -- what it costs those that do not use it --------------------------------------------------------


def test_an_agent_that_never_connects_costs_no_imports_and_no_file(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from runner.domain import Limits
        from runner.gateway.gateway import GatewayPolicy, ModelGateway

        async def main():
            gateway = ModelGateway(
                GatewayPolicy(models=("agenttrace/*",)),
                prices=lambda: sys.exit("prices were asked for"),
            )
            path = Path(sys.argv[1]) / "exchanges.jsonl"
            async with gateway.open(None, 1, Limits(), path) as session:
                session.environment
            assert session.use().connections == 0
            await gateway.close()

        asyncio.run(main())
        heavy = {"httpx", "starlette", "uvicorn", "h11", "mcp", "jsonschema", "genai_prices",
                 "bpe_openai", "anyio"}
        print(sorted(heavy & set(sys.modules)))
        """
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.stderr) == ("[]\n", "")
    assert list(tmp_path.iterdir()) == []
