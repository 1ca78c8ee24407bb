from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.gateway.calls import Refused
from runner.gateway.cycle import Receive, Send
from runner.gateway.room import RequestRoom
from runner.gateway.server import HttpLimits, serve
from tests.unit.gateway.connections import MemoryConnection, listening

LIMITS = HttpLimits(idle_seconds=30, request_bytes=100_000)
IMPATIENT = HttpLimits(idle_seconds=0.05, request_bytes=100_000)


class App:
    """Answers each request with what it was, and keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.disconnected = asyncio.Event()
        self.begun = asyncio.Event()
        self.chunks_sent = 0

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        handler: Callable[..., Awaitable[None]] = {
            "/stream": self._stream,
            "/endless": self._endless,
            "/wait": self._wait,
            "/deaf": self._deaf,
            "/bug": self._bug,
            "/half": self._half,
        }.get(scope["path"], self._echo)
        await handler(scope, receive, send)

    async def _body(self, receive: Receive) -> bytes:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError("gone")
            body += message["body"]
            if not message["more_body"]:
                return body

    async def _echo(self, scope: Any, receive: Receive, send: Send) -> None:
        body = await self._body(receive)
        seen = {
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode(),
            "body": body.decode("latin-1"),
        }
        self.seen.append(seen)
        await answer(send, json.dumps(seen).encode())

    async def _deaf(self, scope: Any, receive: Receive, send: Send) -> None:
        await answer(send, b"no", status=401)

    async def _stream(self, scope: Any, receive: Receive, send: Send) -> None:
        await self._body(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(3):
            await send(
                {"type": "http.response.body", "body": b"piece %d\n" % number, "more_body": True}
            )
            self.begun.set()
            await self._go_on.wait()
        await send({"type": "http.response.body", "body": b""})

    async def _endless(self, scope: Any, receive: Receive, send: Send) -> None:
        await self._body(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                chunk = {"type": "http.response.body", "body": bytes(50_000), "more_body": True}
                await send(chunk)
                self.chunks_sent += 1
        except ConnectionError:
            self.disconnected.set()
            raise

    async def _wait(self, scope: Any, receive: Receive, send: Send) -> None:
        await self._body(receive)
        self.begun.set()
        assert (await receive())["type"] == "http.disconnect"
        self.disconnected.set()

    async def _bug(self, scope: Any, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    async def _half(self, scope: Any, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": []}
        await send(start)
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        raise Refused(500, "late", "too late for an answer")

    _go_on = asyncio.Event()


async def answer(send: Send, body: bytes, status: int = 200) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def app() -> App:
    app = App()
    app._go_on = asyncio.Event()
    return app


@asynccontextmanager
async def served(
    app: App, limits: HttpLimits = LIMITS, window: int = 256 * 1024
) -> AsyncIterator[MemoryConnection]:
    """The agent's end of a connection; at the end nothing of ours runs on."""
    connection = MemoryConnection(window)
    before = asyncio.all_tasks()
    serving = asyncio.create_task(serve(connection, app, limits, RequestRoom(800_000)))
    try:
        yield connection
    finally:
        await connection.leave()
        async with asyncio.timeout(20):
            await serving
    assert connection.closed
    assert asyncio.all_tasks() == before


async def heard(app: App, request: bytes, limits: HttpLimits = LIMITS) -> bytes:
    """All that is said to `request`, after which nothing more is sent."""
    async with served(app, limits) as agent:
        await agent.send(request)
        await agent.end()
        return await agent.receive()


def get(path: str = "/", headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode()


def post(body: bytes, headers: str = "") -> bytes:
    head = f"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


# -- what an honest client needs -------------------------------------------------------------------


async def test_a_request_is_answered(app: App) -> None:
    said = await heard(app, b"POST /a%20b?c=d HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nxyz")
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert app.seen == [{"method": "POST", "path": "/a b", "query": "c=d", "body": "xyz"}]


async def test_a_body_in_chunks_is_put_together(app: App) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    await heard(app, head + b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nTrailer: t\r\n\r\n" + get("/next"))
    assert [seen["body"] for seen in app.seen] == ["abcde", ""]


async def test_a_connection_is_used_again(app: App) -> None:
    async with served(app) as agent:
        for number in range(3):
            await agent.send(post(b"%d" % number))
            said = await agent.receive(b'"%d"}' % number)
            assert b"connection: close" not in said.lower()
    assert [seen["body"] for seen in app.seen] == ["0", "1", "2"]


@pytest.mark.parametrize("headers", ["Connection: close\r\n", "connection: CLOSE, x\r\n"])
async def test_a_client_that_wants_the_end_gets_it(app: App, headers: str) -> None:
    async with served(app) as agent:
        await agent.send(get("/", headers))
        assert b"connection: close" in (await agent.receive()).lower()


async def test_http_1_0_gets_its_answer_and_the_end(app: App) -> None:
    async with served(app) as agent:
        await agent.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await agent.receive()).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_an_empty_line_before_a_request_is_forgiven(app: App) -> None:
    await heard(app, b"\r\n" + get("/a") + b"\r\n" + get("/b"))
    assert [seen["path"] for seen in app.seen] == ["/a", "/b"]


async def test_an_upgrade_is_not_made_and_does_no_harm(app: App) -> None:
    said = await heard(app, get("/", "Connection: Upgrade\r\nUpgrade: h2c\r\n") + get("/b"))
    assert said.count(b"HTTP/1.1 200 OK") == 2


async def test_a_head_is_answered_without_a_body(app: App) -> None:
    said = await heard(app, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert said.endswith(b"\r\n\r\n")


async def test_who_asks_whether_to_go_on_is_told_to(app: App) -> None:
    async with served(app) as agent:
        await agent.send(post(b"", "Expect: 100-continue\r\n").replace(b": 0", b": 5"))
        assert await agent.receive(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await agent.send(b"hello")
        assert b"200 OK" in await agent.receive(b"}")
    assert app.seen[0]["body"] == "hello"


async def test_who_asks_whether_to_go_on_is_not_told_to_when_refused(app: App) -> None:
    async with served(app) as agent:
        await agent.send(
            b"POST /deaf HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        said = await agent.receive(b"no")
        assert said.startswith(b"HTTP/1.1 401 ")
        assert b"connection: close" in said.lower()


async def test_a_stream_is_passed_on_piece_by_piece(app: App) -> None:
    async with served(app) as agent:
        await agent.send(get("/stream"))
        assert (await agent.receive(b"piece 0\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        app._go_on.set()
        assert b"piece 2" in await agent.receive(b"\r\n0\r\n\r\n")


# -- an agent that goes away, or does not read -----------------------------------------------------


async def test_the_application_learns_that_the_agent_has_gone(app: App) -> None:
    async with served(app) as agent:
        await agent.send(get("/wait"))
        await app.begun.wait()
        await agent.leave()
        await app.disconnected.wait()


async def test_an_agent_that_goes_in_the_middle_of_a_body_leaves_nothing(app: App) -> None:
    async with served(app) as agent:
        await agent.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nabc")
    assert app.seen == []


async def test_an_agent_that_goes_in_the_middle_of_a_stream_ends_it(app: App) -> None:
    async with served(app) as agent:
        await agent.send(get("/endless"))
        await agent.receive(b"\r\n\r\n")
        await agent.leave()
        await app.disconnected.wait()


async def test_an_agent_that_never_reads_fills_no_memory_and_is_given_up(app: App) -> None:
    async with served(app, IMPATIENT, window=64 * 1024) as agent:
        await agent.send(get("/endless"))
        await app.disconnected.wait()
        assert agent.most_unread < 200_000
        assert app.chunks_sent < 5


async def test_an_agent_that_floods_a_busy_connection_is_not_read(app: App) -> None:
    agent = MemoryConnection(window=64 * 1024)
    serving = asyncio.create_task(serve(agent, app, LIMITS, RequestRoom(1)))
    await agent.send(get("/wait"))
    await app.begun.wait()
    assert await sent_within(agent, seconds=0.2) < 300_000
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def sent_within(agent: MemoryConnection, seconds: float) -> int:
    """How many bytes, of at most 10 MB, somebody took before nobody took any for so long."""
    for sent in range(0, 10_000_000, 10_000):
        try:
            await asyncio.wait_for(agent.send(bytes(10_000)), seconds)
        except TimeoutError:
            return sent
    return 10_000_000


async def test_an_answer_that_cannot_be_finished_is_broken_off(app: App) -> None:
    async with served(app) as agent:
        await agent.send(get("/half"))
        said = await agent.receive()
        assert b"begun" in said
        assert not said.endswith(b"0\r\n\r\n")


async def test_a_bug_of_ours_is_an_answer_and_is_logged(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    said = await heard(app, get("/bug"))
    assert said.startswith(b"HTTP/1.1 500 ")
    assert "could not be answered" in caplog.text


async def test_cancelled_it_cancels_the_application(app: App) -> None:
    connection = MemoryConnection()
    serving = asyncio.create_task(serve(connection, app, LIMITS, RequestRoom(1)))
    await connection.send(get("/wait"))
    await app.begun.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert connection.closed
    assert not app.disconnected.is_set()


# -- silence ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_bytes", [b"GET / HTTP/1.1\r\nHost", post(b"abc")[:-1], b"\r"])
async def test_a_request_that_does_not_come_to_its_end_times_out(
    app: App, request_bytes: bytes
) -> None:
    async with served(app, IMPATIENT) as agent:
        await agent.send(request_bytes)
        assert (await agent.receive()).startswith(b"HTTP/1.1 408 ")
    assert app.seen == []


async def test_a_silent_connection_is_closed_without_a_word(app: App) -> None:
    async with served(app, IMPATIENT) as agent:
        assert await agent.receive() == b""


async def test_a_slow_request_is_taken_byte_by_byte(app: App) -> None:
    async with served(app) as agent:
        for byte in post(b"hello, slow world"):
            await agent.send(bytes([byte]))
            await asyncio.sleep(0)
        await agent.receive(b"}")
    assert app.seen[0]["body"] == "hello, slow world"


# -- limits ----------------------------------------------------------------------------------------


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(app: App) -> None:
    async with served(app) as agent:
        await agent.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n")
        assert (await agent.receive()).startswith(b"HTTP/1.1 413 ")


async def test_a_body_in_chunks_is_refused_once_it_is_too_large(app: App) -> None:
    async with served(app) as agent:
        await agent.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(11):
            await agent.send(b"2710\r\n" + bytes(10_000) + b"\r\n")
        assert (await agent.receive()).startswith(b"HTTP/1.1 413 ")
    assert app.seen == []


async def test_a_body_of_the_largest_size_is_taken(app: App) -> None:
    await heard(app, post(b"x" * 100_000))
    assert len(app.seen[0]["body"]) == 100_000


@pytest.mark.parametrize(
    "request_bytes",
    [
        get("/", f"X: {'x' * 70_000}\r\n"),
        get("/", "X: y\r\n" * 300),
        get("/" + "a" * 70_000),
        b"A" * 70_000,
    ],
    ids=["a long header", "many headers", "a long path", "no end"],
)
async def test_large_heads_are_refused(app: App, request_bytes: bytes) -> None:
    assert (await heard(app, request_bytes)).startswith(b"HTTP/1.1 431 ")
    assert app.seen == []


# -- smuggling, and what is no request -------------------------------------------------------------

SMUGGLED = {
    "both lengths": post(b"abc", "Transfer-Encoding: chunked\r\n"),
    "two lengths": post(b"abc", "Content-Length: 4\r\n"),
    "the same length twice": post(b"abc", "Content-Length: 3\r\n"),
    "a list of lengths": post(b"abc").replace(b": 3", b": 3, 3"),
    "a signed length": post(b"abc").replace(b": 3", b": +3"),
    "a length in hex": post(b"abc").replace(b": 3", b": 0x3"),
    "a negative length": post(b"abc").replace(b": 3", b": -1"),
    "a vast length": post(b"abc").replace(b": 3", b": " + b"9" * 50),
    "two encodings": get("/", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
    "space before the colon": get("/", "Content-Length : 3\r\n"),
    "chunks in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded header": get("/", "X: a\r\n b\r\n"),
    "a header folded with a tab": get("/", "X: a\r\n\tb\r\n"),
    "bare LF": b"GET / HTTP/1.1\nHost: x\n\n",
    "one bare LF": get("/", "X: a\nY: b\r\n"),
    "bare CR": get("/", "X: a\rY: b\r\n"),
    "a zero byte": get("/", "X: a\0b\r\n"),
    "a control character": get("/", "X: a\x1bb\r\n"),
    "two hosts": get("/", "Host: y\r\n"),
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "an absolute address": b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "no path": b"GET  HTTP/1.1\r\nHost: x\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "TLS": bytes.fromhex("16030100a1010000 9d0303"),
    "only empty lines": b"\r\n\r\n\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/3": b"GET / HTTP/3.0\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "an unknown encoding": get("/", "Transfer-Encoding: gzip, chunked\r\n"),
}


@pytest.mark.parametrize("request_bytes", SMUGGLED.values(), ids=list(SMUGGLED))
async def test_what_can_be_read_in_two_ways_is_refused_and_ends_the_connection(
    app: App, request_bytes: bytes
) -> None:
    said = await heard(app, request_bytes + get("/smuggled"))
    status = int(said.split(b" ", 2)[1])
    assert status in {400, 405, 501, 505}
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["code"]
    assert len(re.findall(rb"HTTP/1\.1 \d", said)) == 1
    assert app.seen == []


@pytest.mark.parametrize(
    "body",
    [b"zz\r\n", b"3\r\nabcd\r\n", b"-1\r\n", b"3\nabc\n0\n\n", b"F" * 30 + b"\r\n", b"1" * 70_000],
)
async def test_chunks_that_are_none_end_the_connection(app: App, body: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    said = await heard(app, head + body + get("/smuggled"))
    assert said.startswith(b"HTTP/1.1 400 ")
    assert app.seen == []


async def test_a_body_that_nobody_read_is_not_taken_for_a_request(app: App) -> None:
    request = post(get("/smuggled")).replace(b"/a", b"/deaf")
    said = await heard(app, request)
    assert said.count(b"HTTP/1.1") == 1
    assert app.seen == []


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.sampled_from([*SMUGGLED.values(), get(), post(b"abc"), b"\r\n", b"\r\n\r\n", b"\n"]),
            st.sampled_from([b"Transfer-Encoding: chunked\r\n", b"POST / HTTP/1.1\r\nHost: x\r\n"]),
        ),
        max_size=8,
    )
)
async def test_no_bytes_raise_or_leave_anything(pieces: list[bytes]) -> None:
    app = App()
    async with served(app) as agent:
        for piece in pieces:
            await agent.send(piece)
        await agent.end()
        said = await agent.receive()
    assert said == b"" or said.startswith(b"HTTP/1.1 ")


# -- many ------------------------------------------------------------------------------------------


async def test_a_thousand_pipelined_requests_are_answered_in_order(app: App) -> None:
    async with served(app) as agent:
        requests = b"".join(post(b"%04d" % number) for number in range(1000))
        sending = asyncio.create_task(flood_in_pieces(agent, requests))
        said = await agent.receive(b'"body": "0999"}')
        await sending
    assert said.count(b"HTTP/1.1 200 OK") == 1000
    assert [int(seen["body"]) for seen in app.seen] == list(range(1000))


async def flood_in_pieces(agent: MemoryConnection, data: bytes) -> None:
    for start in range(0, len(data), 7000):
        await agent.send(data[start : start + 7000])


async def test_five_hundred_connections_at_once_are_served(app: App) -> None:
    room = RequestRoom(800_000)

    async def ask(port: int, number: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(b"%d" % number, "Connection: close\r\n"))
        said = await reader.read()
        writer.close()
        await writer.wait_closed()
        return said

    async with listening(lambda connection: serve(connection, app, LIMITS, room)) as port:
        said = await asyncio.gather(*(ask(port, number) for number in range(500)))
    assert all(each.startswith(b"HTTP/1.1 200 OK") for each in said)
    assert sorted(int(seen["body"]) for seen in app.seen) == list(range(500))


async def test_large_requests_wait_until_others_are_answered(app: App) -> None:
    room = RequestRoom(100_000)
    first, second = MemoryConnection(), MemoryConnection()
    servings = [asyncio.create_task(serve(each, app, LIMITS, room)) for each in (first, second)]
    await first.send(post(b"x" * 90_000).replace(b"/a", b"/wait"))
    await app.begun.wait()
    await second.send(post(b"y" * 90_000))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(second.receive(b"HTTP/1.1"), 0.1)
    await first.leave()
    await second.receive(b'y"}')
    await second.leave()
    await asyncio.gather(*servings)


async def test_who_waits_for_room_gets_it_in_turn_or_gives_its_turn_up() -> None:
    room = RequestRoom(10)
    assert await room.take(8) == 8
    large, small = asyncio.create_task(room.take(9)), asyncio.create_task(room.take(1))
    await asyncio.sleep(0)
    assert not small.done()  # although it would fit
    large.cancel()
    assert await small == 1
    room.give_back(8)
    room.give_back(1)
    assert await room.take(1_000_000) == 10
