"""The MCP server, asked by the official client over a real loopback connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import uvicorn
from mcp.client.client import Client
from mcp_types import TextContent
from pydantic import JsonValue

from runner.domain import ToolAnswer, ToolDefinition
from runner.errors import RunnerError, StorageFailed
from runner.gateway.calls import Refused
from runner.gateway.mcp import McpEndpoint
from runner.gateway.tools import TOOL_NAMES, make_tools

HEADERS = {"content-type": "application/json"}


class Tools:
    """All tools of the runner, without counting or recording."""

    def __init__(self) -> None:
        self.tools = make_tools(TOOL_NAMES, {}, seed=0)
        self.calls: list[tuple[str, JsonValue, str]] = []
        self.broken: RunnerError | None = None
        self.meeting: asyncio.Barrier | None = None
        self.endless = asyncio.Event()

    def definitions(self) -> list[ToolDefinition]:
        return [tool.definition for tool in self.tools.values()]

    async def call(self, name: str, arguments: JsonValue, via: str) -> ToolAnswer:
        self.calls.append((name, arguments, via))
        if self.broken:
            raise self.broken
        if self.meeting:
            await self.meeting.wait()
        if name == "endless":
            self.endless.set()
            await asyncio.Event().wait()
        if name not in self.tools:
            raise Refused(404, "unknown_tool", "there is no such tool")
        assert isinstance(arguments, dict)
        return await self.tools[name].call(arguments)


@contextlib.asynccontextmanager
async def serving(endpoint: McpEndpoint) -> AsyncIterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(endpoint, lifespan="off", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        running = asyncio.create_task(server.serve([listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        finally:
            server.should_exit = server.force_exit = True
            await running


@pytest.fixture
def failures() -> list[RunnerError]:
    return []


@pytest.fixture
async def tools() -> Tools:
    return Tools()


@pytest.fixture
async def url(tools: Tools, failures: list[RunnerError]) -> AsyncIterator[str]:
    async with McpEndpoint(tools, failures.append) as endpoint, serving(endpoint) as url:
        yield url


def _text(result: object) -> str:
    (content,) = result.content  # type: ignore[attr-defined]
    assert isinstance(content, TextContent)
    return content.text


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_official_client_finds_the_tools_and_calls_one(
    mode: str, url: str, tools: Tools
) -> None:
    async with Client(url, mode=mode) as client:
        listed = await client.list_tools()
        result = await client.call_tool("calculator", {"expression": "6 * 7"})

    assert [tool.name for tool in listed.tools] == list(TOOL_NAMES)
    assert listed.tools[0].input_schema == tools.definitions()[0].parameters
    assert (_text(result), result.structured_content) == ("42", {"result": 42})
    assert result.is_error is False
    assert tools.calls == [("calculator", {"expression": "6 * 7"}, "mcp")]


async def test_an_object_is_structured_content_and_json_text(url: str) -> None:
    async with Client(url) as client:
        result = await client.call_tool("clock", {})
    assert result.structured_content == json.loads(_text(result))
    assert result.structured_content["weekday"] == "Monday"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_errors_of_tools_and_refusals_are_results_that_say_so(mode: str, url: str) -> None:
    async with Client(url, mode=mode) as client:
        failed = await client.call_tool("calculator", {"expression": "1 / 0"})
        unknown = await client.call_tool("teleport", {})
    assert (failed.is_error, _text(failed)) == (True, "division by zero")
    assert (unknown.is_error, _text(unknown)) == (True, "there is no such tool")


async def test_calls_run_side_by_side(url: str, tools: Tools) -> None:
    tools.meeting = asyncio.Barrier(20)  # opens once all twenty are there
    async with Client(url) as client:
        asked = [client.call_tool("calculator", {"expression": f"{n}+1"}) for n in range(20)]
        results = await asyncio.gather(*asked)
    assert [_text(result) for result in results] == [str(n + 1) for n in range(20)]


CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "calculator", "arguments": {"expression": "2+2"}},
}


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json", "application/json"),
        ("*/*", "application/json"),
        ("application/json, text/event-stream", "text/event-stream"),
    ],
)
async def test_answers_come_in_the_form_that_the_client_asks_for(
    url: str, accept: str, kind: str
) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(url, json=CALL, headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)
    assert '"text":"4"' in answer.text.replace(" ", "")


async def test_a_client_that_says_nothing_of_what_it_accepts_gets_json(url: str) -> None:
    async with httpx.AsyncClient() as client:
        request = client.build_request("POST", url, json=CALL)
        del request.headers["accept"]
        answer = await client.send(request)
    assert answer.json()["result"]["content"][0]["text"] == "4"


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_there_are_no_streams_of_its_own_and_no_sessions(url: str, method: str) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.request(method, url, headers={"accept": "text/event-stream"})
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"jsonrpc":"2.0"}', b"[" * 100_000, b"\xff\xfe"],
    ids=["nothing", "half", "batch", "null", "no-method", "deep", "not-utf8"],
)
async def test_what_is_no_message_is_refused(url: str, body: bytes, tools: Tools) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(url, content=body, headers=HEADERS)
        assert 400 <= answer.status_code < 500
        assert (await client.post(url, json=CALL)).status_code == 200
    assert len(tools.calls) == 1


async def test_large_requests_are_refused_unread(url: str, tools: Tools) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(url, content=b"x" * (3 * 1024 * 1024), headers=HEADERS)
    assert answer.status_code == 413
    assert tools.calls == []


async def test_a_failure_of_ours_is_told_to_the_session(
    url: str, tools: Tools, failures: list[RunnerError]
) -> None:
    tools.broken = StorageFailed("the disk is full")
    async with httpx.AsyncClient() as client:
        answer = await client.post(url, json=CALL)
    assert failures == [tools.broken]
    assert "disk is full" not in answer.text


async def test_hostile_requests_leave_no_line_in_our_log(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with httpx.AsyncClient() as client:
        await client.post(url, content=b"{", headers={**HEADERS, "mcp-protocol-version": "zzz"})
        await client.post(url, json={**CALL, "method": "no/such"}, headers={"origin": "evil"})
    assert [record for record in caplog.records if record.name.startswith("mcp")] == []


async def test_leaving_ends_calls_under_way_and_leaves_no_task(
    tools: Tools, failures: list[RunnerError]
) -> None:
    before = asyncio.all_tasks()
    async with (
        McpEndpoint(tools, failures.append) as endpoint,
        serving(endpoint) as url,
        httpx.AsyncClient() as client,
    ):
        call = {**CALL, "params": {"name": "endless", "arguments": {}}}
        asking = asyncio.create_task(client.post(url, json=call))
        await tools.endless.wait()
        asking.cancel()
        await asyncio.wait([asking])
    assert asyncio.all_tasks() == before


async def test_it_may_be_left_by_another_task_than_it_was_entered_by(tools: Tools) -> None:
    endpoint = McpEndpoint(tools, lambda _: None)
    await asyncio.create_task(endpoint.__aenter__())
    async with serving(endpoint) as url, httpx.AsyncClient() as client:
        assert (await client.post(url, json=CALL)).status_code == 200
    await asyncio.create_task(endpoint.__aexit__(None, None, None))
