"""An endpoint on the loopback that behaves as each test wants, and a world to find it in."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import httpcore
from pydantic import SecretStr

from runner.domain import AgentEndpoint, Attempt, Limits, Prompt
from runner.transport.connections import Outside
from runner.transport.remote import RemoteAgent, RemotePolicy

PROMPT = Prompt(task_id="t", text="what?")
LIMITS = Limits(time_seconds=5, output_bytes=100)
PUBLIC = "93.184.216.34"
POLICY = RemotePolicy(
    allow_addresses=(ip_network("127.0.0.1/32"),),
    allow_plain_http=True,
    credentials={"AGENT_TOKEN": SecretStr("from-the-environment")},
    connect_seconds=5,
)

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Served:
    """What an endpoint was asked, and where it is."""

    port: int = 0
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/agent"

    def header(self, name: str, request: int = 0) -> str | None:
        found = re.search(
            rf"^{re.escape(name)}: (.*?)\r?$", self.heads[request], re.MULTILINE | re.IGNORECASE
        )
        return found[1] if found else None


@asynccontextmanager
async def listening(behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server that behaves so in each connection; all of it is gone on exit."""
    handlers = set[asyncio.Task[None] | None]()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(task := asyncio.current_task())
        try:
            await behaviour(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)  # in which the transport closes
            handlers.discard(task)

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        left = [task for task in handlers if task]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@asynccontextmanager
async def serving(
    *behaviours: Behaviour, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Served]:
    """One behaviour for each request; the last one for all further ones."""
    served, left = Served(), list(behaviours)

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behaviour = left.pop(0) if len(left) > 1 else left[0]
        served.heads.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
        length = int(served.header("Content-Length", -1) or 0)
        served.bodies.append(await reader.readexactly(length))
        served.was_asked.set()
        await behaviour(reader, writer)

    async with listening(behave, tls) as served.port:
        yield served


def says(
    body: bytes | object, status: str = "200 OK", headers: Iterable[str] = (), length: int = -1
) -> Behaviour:
    """A complete response; `body` is sent as JSON unless it is bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(data) if length < 0 else length}"]
    return raw("\r\n".join([*lines, *headers, "", ""]).encode() + data)


def raw(data: bytes) -> Behaviour:
    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return behave


def endless(start: bytes, again: bytes, pause: float = 0.0) -> Behaviour:
    """`start`, then `again` for as long as somebody listens."""

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while not writer.transport.is_closing():
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(pause)

    return behave


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        await reader.read()


OK = says({"output": "42"})
BUSY = says({}, "503 Service Unavailable")


class Dialler(httpcore.AnyIOBackend):
    """Notes every address dialled; the first few calls fail, the others reach the loopback."""

    def __init__(self, *failures: Exception) -> None:
        self.dialled: list[str] = []
        self._failures = list(failures)

    async def connect_tcp(self, host: str, *args: Any, **named: Any) -> Any:
        self.dialled.append(host)
        if self._failures:
            raise self._failures.pop(0)
        return await super().connect_tcp("127.0.0.1", *args, **named)


class World:
    """Name service, network and clock of one test."""

    def __init__(
        self, *answers: Sequence[str] | OSError, failures: Sequence[Exception] = ()
    ) -> None:
        self.answers = list(answers)
        self.looked_up: list[str] = []
        self.slept: list[float] = []
        self.dialler = Dialler(*failures)

    @property
    def outside(self) -> Outside:
        return Outside(resolve=self.resolve, backend=self.dialler, sleep=self.sleep)

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.looked_up.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, OSError):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def endpoint(url: str, **more: Any) -> AgentEndpoint:
    return AgentEndpoint(endpoint_type="http", url=url, **more)


async def asked(
    at: AgentEndpoint | str,
    world: World | None = None,
    policy: RemotePolicy = POLICY,
    limits: Limits = LIMITS,
    prompt: Prompt = PROMPT,
) -> Attempt:
    where = endpoint(at) if isinstance(at, str) else at
    agent = RemoteAgent(where, policy, (world or World(["127.0.0.1"])).outside)
    return await agent.attempt(prompt, {"seed": 1}, limits, None)  # type: ignore[arg-type]
