"""Connections to providers are kept while they live, limited in number, and made as told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from runner.gateway.upstreams.connections import KeptConnections, Proxied, open_transport

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n"
SECONDS = {"connect": 5, "read": 5, "write": 5, "pool": 5}


@asynccontextmanager
async def server(*answers: bytes) -> AsyncIterator[tuple[str, list[int]]]:
    """Gives each connection these answers, and then ends it; its URL, and who asked when."""
    asked: list[int] = []
    serving: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        number = len(serving)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            for answer in answers:
                await reader.readuntil(b"\r\n\r\n")
                asked.append(number)
                writer.write(answer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/", asked
    await asyncio.gather(*filter(None, serving))


@asynccontextmanager
async def kept(most: int = 10) -> AsyncIterator[KeptConnections]:
    transport = KeptConnections(ssl.create_default_context(), most)
    try:
        yield transport
    finally:
        await transport.aclose()


async def asked(transport: KeptConnections, url: str, **seconds: float) -> httpx.Response:
    request = httpx.Request("POST", url, extensions={"timeout": {**SECONDS, **seconds}})
    return await transport.handle_async_request(request)


async def body(response: httpx.Response) -> bytes:
    try:
        return b"".join([piece async for piece in response.aiter_raw()])
    finally:
        await response.aclose()


async def test_one_that_was_read_to_its_end_is_used_again() -> None:
    async with server(*[HEAD + b"\r\nok"] * 3) as (url, by), kept() as transport:
        for _ in range(3):
            assert await body(await asked(transport, url)) == b"ok"
    assert by == [1, 1, 1]


@pytest.mark.parametrize("head", [b"\r\nok", b"connection: close\r\n\r\nok"])
async def test_one_that_its_server_has_ended_is_not(head: bytes) -> None:
    async with server(HEAD + head) as (url, by), kept() as transport:
        for _ in range(3):
            assert await body(await asked(transport, url)) == b"ok"
            await asyncio.sleep(0.05)  # for the news of its end, which may also come later
    assert by == [1, 2, 3]


async def test_one_whose_answer_was_left_is_not() -> None:
    async with server(*[HEAD + b"\r\nok"] * 2) as (url, by), kept() as transport:
        await (await asked(transport, url)).aclose()
        assert await body(await asked(transport, url)) == b"ok"
    assert by == [1, 2]


async def test_what_nobody_asked_for_is_no_answer() -> None:
    async with server(HEAD + b"\r\nok" + HEAD + b"\r\nno") as (url, _), kept() as transport:
        assert await body(await asked(transport, url)) == b"ok"
        assert await body(await asked(transport, url)) == b"ok"


async def test_those_beyond_the_most_wait_and_give_up() -> None:
    async with server(*[HEAD + b"\r\nok"] * 2) as (url, _), kept(most=1) as transport:
        first = await asked(transport, url)
        with pytest.raises(httpx.PoolTimeout):
            await asked(transport, url, pool=0.02)
        await body(first)
        assert await body(await asked(transport, url)) == b"ok"


async def test_failures_give_their_place_back() -> None:
    async with kept(most=1) as transport:
        for _ in range(2):
            with pytest.raises(httpx.ConnectError):
                await asked(transport, "http://127.0.0.1:9/")
        async with server(b"nonsense\r\n\r\n") as (url, _):
            for _ in range(2):
                with pytest.raises(httpx.RemoteProtocolError):
                    await asked(transport, url)
    async with server(HEAD) as (url, _), kept(most=1) as transport:
        for _ in range(2):
            with pytest.raises(httpx.TransportError):
                await asked(transport, url)


async def test_an_unknown_scheme_is_refused() -> None:
    async with kept() as transport:
        with pytest.raises(httpx.UnsupportedProtocol):
            await asked(transport, "ftp://127.0.0.1/")


@pytest.mark.parametrize(
    ("variable", "kind"),
    [("HTTPS_PROXY", Proxied), ("ALL_PROXY", Proxied), ("NO_PROXY", KeptConnections)],
)
async def test_proxies_of_the_environment_are_gone_through(
    monkeypatch: pytest.MonkeyPatch, variable: str, kind: type
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    transport = open_transport(1)
    assert isinstance(transport, kind)
    await transport.aclose()
