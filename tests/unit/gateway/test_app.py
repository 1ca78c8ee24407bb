from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
from pydantic import JsonValue

from runner.domain import Api, ToolAnswer, ToolDefinition
from runner.errors import RunnerError, StorageFailed
from runner.gateway.app import GatewayApp
from runner.gateway.calls import Answer, Refused
from runner.gateway.cycle import Receive, Send
from runner.gateway.room import RequestRoom
from runner.gateway.server import HttpLimits, serve
from tests.unit.gateway.connections import MemoryConnection, listening

KEY = "at-" + "0" * 32
LIMITS = HttpLimits(idle_seconds=30, request_bytes=100_000)


class Models:
    """Stands in for the story of a model call, which has tests of its own."""

    def __init__(self) -> None:
        self.calls: list[tuple[Api, bytes, Mapping[str, str]]] = []
        self.answer: Answer | Exception = Answer(
            status=200, content_type="application/json", body=b"{}"
        )
        self.settled: list[str] = []
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()

    def models(self) -> list[str]:
        return ["agenttrace/scripted", "openai/gpt-4o-mini"]

    def owner(self, model: str) -> str:
        return model.partition("/")[0]

    async def call(self, api: Api, raw: bytes, headers: Mapping[str, str]) -> Answer:
        self.calls.append((api, raw, headers))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def pieces(self, *pieces: bytes, then: Exception | None = None) -> AsyncIterator[bytes]:
        """A stream that goes on until the agent has gone, where no error ends it."""
        try:
            for piece in pieces:
                yield piece
            self.begun.set()
            if then is not None:
                raise then
            await asyncio.Event().wait()
        except (asyncio.CancelledError, GeneratorExit):
            self.settled.append("aborted")
            self.ended.set()
            raise


class Tools:
    """Stands in for the story of a tool call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, JsonValue, str]] = []
        self.answer: ToolAnswer | Exception = ToolAnswer(result=3)

    def definitions(self) -> list[ToolDefinition]:
        return [ToolDefinition(name="add", description="Adds.", parameters={"type": "object"})]

    async def call(self, name: str, arguments: JsonValue, via: str) -> ToolAnswer:
        self.calls.append((name, arguments, via))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Mcp:
    """Stands in for the MCP server."""

    def __init__(self, bodies: list[Any]) -> None:
        self.bodies = bodies

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        self.bodies.append((await receive()).get("body"))
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class World:
    """One session's application, and a client."""

    def __init__(self) -> None:
        self.models = Models()
        self.tools = Tools()
        self.failures: list[RunnerError] = []
        self.mcp_bodies: list[Any] = []

    def app(self, port: int = 4180) -> GatewayApp:
        return GatewayApp(
            key=KEY,
            ports=(port,),
            models=self.models,
            tools=self.tools,
            mcp=Mcp(self.mcp_bodies),
            budget_left=lambda: {"tokens_left": 7},
            fail=self.failures.append,
        )


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    apps: dict[str, GatewayApp] = {}
    room = RequestRoom(800_000)
    async with (
        listening(lambda connection: serve(connection, apps["app"], LIMITS, room)) as port,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {KEY}"}
        ) as client,
    ):
        apps["app"] = world.app(port)
        yield client


# -- models ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", list(Api))
async def test_a_model_call_is_passed_on_as_it_is(
    world: World, client: httpx.AsyncClient, api: Api
) -> None:
    said = await client.post(api, content=b'{"model": 1}', headers={"anthropic-version": "v"})
    assert (said.status_code, said.json()) == (200, {})
    [(called, raw, headers)] = world.models.calls
    assert (called, raw, headers["anthropic-version"]) == (api, b'{"model": 1}', "v")


async def test_the_answer_of_an_upstream_is_passed_on_whole(
    world: World, client: httpx.AsyncClient
) -> None:
    world.models.answer = Answer(
        status=418, content_type="text/odd", body=b"short", headers={"X-Ours": "1"}
    )
    said = await client.post("/v1/embeddings")
    assert (said.status_code, said.content) == (418, b"short")
    assert (said.headers["content-type"], said.headers["x-ours"]) == ("text/odd", "1")


async def test_a_stream_comes_as_it_is_made(world: World, client: httpx.AsyncClient) -> None:
    body = world.models.pieces(b"data: 1\n\n", b"data: 2\n\n")
    world.models.answer = Answer(status=200, content_type="text/event-stream", body=body)
    async with client.stream("POST", "/v1/chat/completions") as said:
        lines = said.aiter_lines()
        assert await anext(lines) == "data: 1"
        await world.models.begun.wait()
    await world.models.ended.wait()
    assert world.models.settled == ["aborted"]


async def test_a_call_is_given_up_when_the_agent_goes_before_its_answer(world: World) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def call(api: Api, raw: bytes, headers: Mapping[str, str]) -> Answer:
        begun.set()
        try:
            return await asyncio.Future[Answer]()
        finally:
            ended.set()

    world.models.call = call  # type: ignore[method-assign]
    connection = MemoryConnection()
    serving = asyncio.create_task(serve(connection, world.app(), LIMITS, RequestRoom(1)))
    await connection.send(ask("/v1/chat/completions"))
    await begun.wait()
    await connection.leave()
    await ended.wait()
    await serving


async def test_a_stream_that_breaks_is_broken_off(world: World, client: httpx.AsyncClient) -> None:
    body = world.models.pieces(b"data: 1\n\n", then=Refused(502, "upstream_failed", "gone"))
    world.models.answer = Answer(status=200, content_type="text/event-stream", body=body)
    with pytest.raises(httpx.RemoteProtocolError):
        await client.post("/v1/chat/completions")


async def test_a_stream_that_never_begins_is_an_error(
    world: World, client: httpx.AsyncClient
) -> None:
    body = world.models.pieces(then=Refused(502, "upstream_failed", "gone"))
    world.models.answer = Answer(status=200, content_type="text/event-stream", body=body)
    said = await client.post("/v1/chat/completions")
    assert (said.status_code, said.json()["error"]["code"]) == (502, "upstream_failed")


@pytest.mark.parametrize(
    ("path", "where"),
    [("/v1/chat/completions", ("error", "code")), ("/v1/messages", ("error", "code"))],
)
async def test_a_refusal_has_the_form_of_its_api(
    world: World, client: httpx.AsyncClient, path: str, where: tuple[str, str]
) -> None:
    world.models.answer = Refused(429, "budget_exceeded", "spent")
    said = await client.post(path)
    assert said.status_code == 429
    assert said.headers["x-should-retry"] == "false"
    assert said.json()[where[0]][where[1]] == "budget_exceeded"
    assert said.json().get("type") == ("error" if path == "/v1/messages" else None)


async def test_models_are_listed(client: httpx.AsyncClient) -> None:
    said = (await client.get("/v1/models")).json()
    assert said["object"] == "list"
    assert [(each["id"], each["owned_by"]) for each in said["data"]] == [
        ("agenttrace/scripted", "agenttrace"),
        ("openai/gpt-4o-mini", "openai"),
    ]


async def test_what_fails_on_our_side_is_told_to_the_session(
    world: World, client: httpx.AsyncClient
) -> None:
    world.models.answer = StorageFailed("disk full at /secret/path")
    said = await client.post("/v1/chat/completions")
    assert said.status_code == 500
    assert "secret" not in said.text
    assert [str(each) for each in world.failures] == ["disk full at /secret/path"]


# -- tools -----------------------------------------------------------------------------------------


async def test_tools_are_listed_in_three_forms(client: httpx.AsyncClient) -> None:
    plain = {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}
    said = [
        (await client.get("/tools", params=params)).json()
        for params in ({}, {"format": "openai"}, {"format": "anthropic"})
    ]
    assert said == [
        {"tools": [plain]},
        {"tools": [{"type": "function", "function": plain}]},
        {"tools": [{"name": "add", "description": "Adds.", "input_schema": {"type": "object"}}]},
    ]
    assert (await client.get("/tools?format=odd")).status_code == 400


async def test_a_tool_is_called(world: World, client: httpx.AsyncClient) -> None:
    said = await client.post("/tools/add", json={"a": 1})
    assert (said.status_code, said.json()) == (200, {"result": 3, "error": ""})
    await client.post("/tools/add")
    assert world.tools.calls == [("add", {"a": 1}, "http"), ("add", {}, "http")]


async def test_a_refused_tool_call_has_a_code(world: World, client: httpx.AsyncClient) -> None:
    world.tools.answer = Refused(422, "invalid_arguments", "no a")
    said = await client.post("/tools/add", json={})
    assert said.status_code == 422
    assert said.json() == {"error": {"code": "invalid_arguments", "message": "no a"}}


@pytest.mark.parametrize(
    "body", [b"{", b"\xff", b"NaN", b"[" * 90_000, b'"\\ud800"', b"1" * 90_000]
)
async def test_what_is_no_json_is_refused(
    world: World, client: httpx.AsyncClient, body: bytes
) -> None:
    said = await client.post("/tools/add", content=body)
    assert (said.status_code, said.json()["error"]["code"]) == (400, "invalid_json")
    assert world.tools.calls == []


async def test_mcp_gets_its_requests(world: World, client: httpx.AsyncClient) -> None:
    assert (await client.post("/mcp", content=b"message")).status_code == 202
    assert world.mcp_bodies == [b"message"]


# -- who may ask -----------------------------------------------------------------------------------

OURS = {"authorization": f"Bearer {KEY}"}
OTHERS = "at-" + "1" * 32
KEYED = ("/v1/models",)
KEYLESS = ("/", "/tools", "/budget")


def ask(path: str, host: str = "127.0.0.1:4180", method: str = "POST") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n\r\n"
    return head.encode()


@pytest.mark.parametrize("path", KEYED + KEYLESS)
@pytest.mark.parametrize(
    "headers",
    [OURS, {"x-api-key": KEY}, {"authorization": f"bearer  {KEY}"}, {**OURS, "x-api-key": KEY}],
)
async def test_the_attempts_own_key_opens_everything(
    client: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    client.headers.pop("authorization")
    assert (await client.get(path, headers=headers)).status_code == 200


@pytest.mark.parametrize("path", KEYED + KEYLESS)
@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {OTHERS}"},
        {"x-api-key": OTHERS},
        {"authorization": f"Basic {KEY}"},
        {"authorization": "Bearer"},
        {"x-api-key": ""},
        {"x-api-key": "\xff\xfe"},
        {**OURS, "x-api-key": OTHERS},
    ],
)
async def test_another_attempts_key_opens_nothing(
    client: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    client.headers.pop("authorization")
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    said = await client.get(path, headers=raw)
    assert (said.status_code, said.json()["error"]["code"]) == (401, "invalid_key")


async def test_no_key_is_enough_for_tools_but_not_for_models(client: httpx.AsyncClient) -> None:
    client.headers.pop("authorization")
    statuses = {path: (await client.get(path)).status_code for path in KEYED + KEYLESS}
    assert statuses == {"/v1/models": 401, "/": 200, "/tools": 200, "/budget": 200}
    assert (await client.post("/v1/messages")).json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:4180", 200),
        ("localhost:4180", 200),
        ("LocalHost:4180", 200),
        ("127.0.0.1", 421),
        ("127.0.0.1:4181", 421),
        ("api.openai.com", 421),
        ("169.254.169.254:4180", 421),
        ("", 421),
    ],
)
async def test_only_requests_to_this_very_host_are_answered(
    world: World, host: str, status: int
) -> None:
    connection = MemoryConnection()
    serving = asyncio.create_task(serve(connection, world.app(), LIMITS, RequestRoom(1)))
    await connection.send(ask("/budget", host, "GET"))
    await connection.end()
    assert (await connection.receive()).startswith(b"HTTP/1.1 %d " % status)
    await serving


# -- what there is ---------------------------------------------------------------------------------


async def test_the_root_tells_what_this_is_and_the_budget_what_is_left(
    client: httpx.AsyncClient,
) -> None:
    about = (await client.get("/")).json()
    assert about["name"] == "AgentTrace gateway"
    assert "POST /v1/chat/completions" in about["models"]
    assert (await client.get("/budget")).json() == {"tokens_left": 7}


@pytest.mark.parametrize(
    "path",
    ["/v1", "/v1/files", "/v1/chat/completions/", "//v1/models", "/tools/a/b", "/../x", "/é"],
)
async def test_other_paths_are_unknown(client: httpx.AsyncClient, path: str) -> None:
    said = await client.post(path, content=b"{}")
    assert (said.status_code, said.json()["error"]["code"]) == (404, "unknown_path")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/chat/completions"),
        ("HEAD", "/v1/messages"),
        ("OPTIONS", "/v1/models"),
        ("DELETE", "/tools"),
        ("GET", "/tools/add"),
        ("POST", "/"),
        ("ODD", "/budget"),
    ],
)
async def test_other_methods_are_refused(client: httpx.AsyncClient, method: str, path: str) -> None:
    said = await client.request(method, path)
    assert said.status_code == 405
    if method != "HEAD":
        assert said.json()["error"]["code"] == "method_not_allowed"


async def test_a_request_that_is_too_large_is_refused_in_the_form_of_its_api(
    world: World, client: httpx.AsyncClient
) -> None:
    said = await client.post("/v1/messages", content=bytes(100_001))
    assert said.status_code == 413
    assert json.loads(said.content)["error"]["type"] == "request_too_large"
    assert world.models.calls == []
