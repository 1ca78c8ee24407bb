"""How providers are reached: a call that was given up leaves nothing, and proxies are respected."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator

import httpx
import psutil
import pytest

from runner.gateway.upstreams.http import open_client


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        yield server.getsockname()[1]


def open_to(port: int) -> list[object]:
    all_of_them = psutil.Process(os.getpid()).net_connections("tcp")
    return [one for one in all_of_them if one.raddr and one.raddr.port == port]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_given_up_at_any_moment_none_is_left(host: str, port: int) -> None:
    client = open_client(300)
    for turns in range(200):
        asking = asyncio.create_task(client.post(f"http://{host}:{port}/"))
        for _ in range(turns % 40):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await client.aclose()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0)
    assert open_to(port) == []


async def test_a_proxy_of_the_environment_is_asked_and_nobody_else(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        writer.close()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        where = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{where}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with open_client(1) as client:
            answer = await client.post("http://models.example/v1")
    assert answer.text == "ok"
    assert asked[0].startswith(b"POST http://models.example/v1 ")


async def test_no_cookie_of_a_provider_is_kept() -> None:
    async with open_client(1) as client:
        client._transport = httpx.MockTransport(
            lambda _: httpx.Response(200, headers={"set-cookie": "a=b; Domain=x.example"})
        )
        await client.post("http://x.example/")
        assert not client.cookies.jar
