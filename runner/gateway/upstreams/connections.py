"""HTTP/1.1 connections to providers, kept for the next call.

They are a transport of httpx. Its own client and transport take more CPU time for a small model
call than all the rest of the gateway; they are used where there are proxies to go through.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import time
import urllib.request
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, TypeAlias

import h11
import httpx

READ_BYTES = 64 * 1024
LONGEST_HEAD = 100 * 1024
_KEPT_SECONDS = 5.0
"""Servers end idle connections, and what is sent on one that has just ended is lost."""
_TRIED_BESIDE_SECONDS = 0.25
"""Until the next address of a name is tried too (RFC 8305)."""

MOST_KEPT = 32
"""Idle connections."""

Origin: TypeAlias = "tuple[str, str, int]"
"""Scheme, host and port."""
_PORTS = {"http": 80, "https": 443}


def open_transport(most: int) -> httpx.AsyncBaseTransport:
    """For at most so many connections at once, as the environment wants them to be made."""
    tls = ssl.create_default_context()
    if {"http", "https", "all"} & set(urllib.request.getproxies()):
        return Proxied(tls, most)
    return KeptConnections(tls, most)


class Proxied(httpx.AsyncBaseTransport):
    """Through the proxies that the environment names, but for what it excepts."""

    def __init__(self, tls: ssl.SSLContext, most: int) -> None:
        self._client = httpx.AsyncClient(
            limits=httpx.Limits(max_connections=most, max_keepalive_connections=MOST_KEPT),
            verify=tls,
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx.AsyncBaseTransport."""
        return await self._client.send(request, stream=True)

    async def aclose(self) -> None:
        """Ends all connections."""
        await self._client.aclose()


class KeptConnections(httpx.AsyncBaseTransport):
    """One event loop uses it. A connection that its server has ended is not used again."""

    def __init__(self, tls: ssl.SSLContext, most: int) -> None:
        tls.set_alpn_protocols(["http/1.1"])
        self._tls = tls
        self._room = asyncio.Semaphore(most)
        self._idle: defaultdict[Origin, list[_Connection]] = defaultdict(list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx.AsyncBaseTransport; raises httpx.TransportError."""
        seconds: dict[str, float | None] = request.extensions.get("timeout", {})
        with _as(httpx.PoolTimeout):
            async with asyncio.timeout(seconds.get("pool")):
                await self._room.acquire()
        try:
            connection = await self._connection(_origin(request.url), seconds.get("connect"))
        except BaseException:
            self._room.release()
            raise
        try:
            head = await connection.ask(request, seconds)
        except BaseException:
            self._end(connection)
            raise
        body = _Body(connection, seconds.get("read"), self._give_back)
        return httpx.Response(head.status_code, headers=list(head.headers), stream=body)

    async def aclose(self) -> None:
        """Ends those that are idle."""
        for kept in self._idle.values():
            while kept:
                kept.pop().abort()

    async def _connection(self, origin: Origin, seconds: float | None) -> _Connection:
        kept = self._idle[origin]
        while kept:
            connection = kept.pop()
            if connection.is_alive:
                return connection
            connection.abort()
        return await _connected(origin, self._tls, seconds)

    def _give_back(self, connection: _Connection) -> None:
        if connection.begin_again() and sum(map(len, self._idle.values())) < MOST_KEPT:
            self._idle[connection.origin].append(connection)
            self._room.release()
        else:
            self._end(connection)

    def _end(self, connection: _Connection) -> None:
        connection.abort()
        self._room.release()


@dataclass(kw_only=True)
class _Connection:
    """One connection, and what is known of the exchange under way."""

    origin: Origin
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    idle_since: float = 0.0
    parser: h11.Connection = field(init=False)

    def __post_init__(self) -> None:
        self.parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD)

    @property
    def is_alive(self) -> bool:
        """Whether an idle one can be used: nothing has come, also not its end."""
        if time.monotonic() - self.idle_since > _KEPT_SECONDS or self.writer.is_closing():
            return False
        waiting = select.poll()
        waiting.register(self.writer.get_extra_info("socket"), select.POLLIN)
        return not waiting.poll(0) and not self.reader.at_eof()

    def begin_again(self) -> bool:
        """Makes it ready for another exchange; False where it cannot have one."""
        both = {self.parser.our_state, self.parser.their_state}
        if both != {h11.DONE} or self.parser.trailing_data[0]:
            return False
        self.parser.start_next_cycle()
        self.idle_since = time.monotonic()
        return True

    def abort(self) -> None:
        """Ends it without waiting for anything."""
        self.writer.transport.abort()

    async def ask(self, request: httpx.Request, seconds: dict[str, float | None]) -> h11.Response:
        """Sends the request whole, and reads the head of its answer."""
        data = self._sent(request)
        if trace := request.extensions.get("trace"):
            await trace("http11.send_request_headers.started", {})
        self.writer.write(data)
        with _as(httpx.WriteTimeout):
            async with asyncio.timeout(seconds.get("write")):
                with suppress(ConnectionError):  # it may have answered all the same
                    await self.writer.drain()
        while not isinstance(event := self.heard(), h11.Response):
            if event is None:
                await self.read(seconds.get("read"))
        return event

    def heard(self) -> h11.Event | None:
        """The next part of the answer; None: it has not come yet."""
        try:
            event = self.parser.next_event()
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError(str(error)) from error
        if event is h11.PAUSED:
            raise httpx.RemoteProtocolError("it speaks another protocol now")
        return event if isinstance(event, h11.Event) else None

    async def read(self, seconds: float | None) -> None:
        """Waits for more of the answer."""
        with _as(httpx.ReadTimeout, httpx.ReadError):
            async with asyncio.timeout(seconds):
                data = await self.reader.read(READ_BYTES)
        self.parser.receive_data(data)

    def _sent(self, request: httpx.Request) -> bytes:
        method, target = request.method, request.url.raw_path
        try:
            head = h11.Request(method=method, target=target, headers=request.headers.raw)
            parts = (head, h11.Data(data=request.content), h11.EndOfMessage())
            return b"".join(self.parser.send(part) or b"" for part in parts)
        except h11.LocalProtocolError as error:
            raise httpx.LocalProtocolError(str(error)) from error


class _Body(httpx.AsyncByteStream):
    """An answer's body; once closed, its connection is kept or ended."""

    def __init__(
        self,
        connection: _Connection,
        seconds: float | None,
        give_back: Callable[[_Connection], None],
    ) -> None:
        self._connection = connection
        self._seconds = seconds
        self._give_back: Callable[[_Connection], None] | None = give_back

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """As it comes; raises httpx.TransportError. What comes together is one piece: of parallel
        streams each has many small ones, and to pass each on by itself takes longer.
        """
        while True:
            pieces = []
            while isinstance(event := self._connection.heard(), h11.Data):
                pieces.append(bytes(event.data))
            if pieces:
                yield b"".join(pieces)
            if isinstance(event, h11.EndOfMessage):
                return
            await self._connection.read(self._seconds)

    async def aclose(self) -> None:
        """May be repeated."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back(self._connection)


async def _connected(origin: Origin, tls: ssl.SSLContext, seconds: float | None) -> _Connection:
    scheme, host, port = origin
    with _as(httpx.ConnectTimeout, httpx.ConnectError):
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(
                sock=await _reached(host, port),
                limit=READ_BYTES,
                ssl=tls if scheme == "https" else None,
                server_hostname=host if scheme == "https" else None,
            )
    return _Connection(origin=origin, reader=reader, writer=writer)


async def _reached(host: str, port: int) -> socket.socket:
    """Connected to the address of `host` that answers first.

    As asyncio with `happy_eyeballs_delay`, which loses the socket when it is cancelled while it
    connects: an agent that calls and goes away would have us hold ever more of them.
    """
    loop = asyncio.get_running_loop()
    waiting = deque(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    trying: list[asyncio.Task[socket.socket]] = []
    first: asyncio.Task[socket.socket] | None = None
    try:
        while first is None:
            if waiting:
                family, _, protocol, _, address = waiting.popleft()
                trying.append(loop.create_task(_dialled(family, protocol, address)))
            pending = [task for task in trying if not task.done()]
            if not pending:
                return trying[-1].result()  # raises why the last one failed
            patience = _TRIED_BESIDE_SECONDS if waiting else None
            await asyncio.wait(pending, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            well = (task for task in trying if task.done() and not task.exception())
            first = next(well, None)
        return first.result()
    except BaseException:
        first = None
        raise
    finally:
        for task in trying:
            if task is not first:
                task.cancel()
                task.add_done_callback(_close)


def _close(dialled: asyncio.Task[socket.socket]) -> None:
    if not dialled.cancelled() and not dialled.exception():
        dialled.result().close()


async def _dialled(family: int, protocol: int, address: Any) -> socket.socket:
    dialled = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        dialled.setblocking(False)
        await asyncio.get_running_loop().sock_connect(dialled, address)
    except BaseException:
        dialled.close()
        raise
    return dialled


def _origin(url: httpx.URL) -> Origin:
    if url.scheme not in _PORTS:
        raise httpx.UnsupportedProtocol(f"not a URL of http or https: {url.scheme}")
    return url.scheme, url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme]


@contextmanager
def _as(
    timed_out: type[httpx.TimeoutException], failed: type[httpx.NetworkError] | None = None
) -> Iterator[None]:
    """Within it, what the system raises is raised as httpx's error."""
    try:
        yield
    except TimeoutError as error:
        raise timed_out(str(error)) from error
    except OSError as error:
        if failed is None:
            raise
        raise failed(str(error)) from error
