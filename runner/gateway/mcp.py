"""The tools of one attempt as an MCP server, over streamable HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, MutableMapping
from contextlib import AsyncExitStack
from typing import Any, Self

from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    TextContent,
    Tool,
)
from pydantic import JsonValue

from runner.errors import RunnerError
from runner.gateway.arguments import ESCAPED_BYTES
from runner.gateway.calls import Refused, Tools
from runner.gateway.cycle import Receive, Send

Scope = MutableMapping[str, Any]

_REQUEST_BYTES = ESCAPED_BYTES + 64 * 1024
"""Arguments, and what MCP says around them."""

# The package logs what clients send and whatever goes wrong with it: that is for the agent, who is
# told, and in the record of calls. Ours would only be flooded.
logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)


class McpEndpoint:
    """An ASGI application, to be entered before its first request.

    It keeps no MCP sessions: each request stands for itself, so that nothing is left when a client
    goes away. It does not look at Host and Origin: whoever routes to it has done so. It may be
    entered in one task and left in another.
    """

    def __init__(self, tools: Tools, fail: Callable[[RunnerError], None]) -> None:
        """`fail` is told of errors that leave the attempt without a verdict."""
        self._tools = tools
        self._fail = fail
        server: Server[Any] = Server(
            "agenttrace", on_list_tools=self._list, on_call_tool=self._call
        )
        self._streaming = _manager(server, json_response=False)
        self._plain = _manager(server, json_response=True)
        self._over = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        ready = asyncio.Event()
        self._running = asyncio.create_task(self._run(ready))
        waiting = asyncio.create_task(ready.wait())
        try:
            await asyncio.wait([self._running, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not ready.is_set():
            await self._running
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        if self._running is not None:
            await self._running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request: a JSON-RPC message by POST."""
        if scope["method"] != "POST":
            await _refuse_method(send)
            return
        accepted = b",".join(value for name, value in scope["headers"] if name == b"accept")
        if not accepted:
            headers = [*scope["headers"], (b"accept", b"application/json")]
            scope = {**scope, "headers": headers}
        manager = self._streaming if b"text/event-stream" in accepted.lower() else self._plain
        await manager.handle_request(scope, receive, send)

    async def _run(self, ready: asyncio.Event) -> None:
        # The package's task groups must be left by the task that entered them: this one.
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._streaming.run())
            await stack.enter_async_context(self._plain.run())
            ready.set()
            await self._over.wait()

    async def _list(self, _context: object, _params: object) -> ListToolsResult:
        return ListToolsResult(
            tools=[
                Tool(name=each.name, description=each.description, input_schema=each.parameters)
                for each in self._tools.definitions()
            ]
        )

    async def _call(self, _context: object, params: CallToolRequestParams) -> CallToolResult:
        try:
            answer = await self._tools.call(params.name, params.arguments or {}, "mcp")
        except Refused as refusal:
            return _error(refusal.message)
        except RunnerError as error:
            self._fail(error)
            return _error("the tools of this task are out of order")
        return _error(answer.error) if answer.error else _result(answer.result)


def _manager(server: Server[Any], *, json_response: bool) -> StreamableHTTPSessionManager:
    return StreamableHTTPSessionManager(
        server,
        stateless=True,
        json_response=json_response,
        max_request_body_size=_REQUEST_BYTES,
    )


async def _refuse_method(send: Send) -> None:
    """No stream of the server's own (GET), and no session to end (DELETE)."""
    headers = [(b"allow", b"POST"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 405, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _result(value: JsonValue) -> CallToolResult:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return CallToolResult(
        content=[TextContent(type="text", text=text)],
        structured_content=value if isinstance(value, dict) else {"result": value},
    )


def _error(message: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=message)], is_error=True)
