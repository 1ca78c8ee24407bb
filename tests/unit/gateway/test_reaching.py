"""A connection that is given up while it is made is not kept by anybody."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator

import httpx
import psutil
import pytest

from runner.gateway.upstreams import connections


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        yield server.getsockname()[1]


def open_to(port: int) -> list[object]:
    all_of_them = psutil.Process(os.getpid()).net_connections("tcp")
    return [one for one in all_of_them if one.raddr and one.raddr.port == port]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_given_up_at_any_moment_none_is_left(host: str, port: int) -> None:
    tls = ssl.create_default_context()
    for turns in range(200):
        origin = ("http", host, port)
        reaching = asyncio.create_task(connections._connected(origin, tls, 5))
        for _ in range(turns % 25):
            await asyncio.sleep(0)
        reaching.cancel()
        (end,) = await asyncio.gather(reaching, return_exceptions=True)
        if not isinstance(end, BaseException):
            end.abort()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0)
    assert open_to(port) == []


async def test_where_nobody_listens_the_reason_is_told(port: int) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        origin = ("http", "127.0.0.1", bound.getsockname()[1])
        with pytest.raises(httpx.ConnectError):
            await connections._connected(origin, ssl.create_default_context(), 5)
