"""A provider over HTTP gets our headers alone, is asked again where that helps, leaks no key."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain import Api, BreakerPolicy
from runner.gateway.apis import parse, prepared
from runner.gateway.calls import ModelRequest, UpstreamBroken
from runner.gateway.upstreams.http import HttpPolicy, HttpUpstream
from runner.gateway.upstreams.patience import asked_seconds
from runner.gateway.upstreams.redaction import REDACTED, Redaction
from runner.orchestrator.breakers import MemoryBreakerStore, SharedBreakers
from tests.unit.gateway.provider import ABORT, HANG, Play, events, provider, whole

KEY = "sk-a-secret-of-this-host"
TROUBLE = Play(status=503, chunks=[b'{"error": "busy"}'])


class Watched:
    """Progress of one call, and the pauses that it made."""

    def __init__(self, seconds_left: float = 1_000.0) -> None:
        self.seconds_left = seconds_left
        self.waits = 0
        self.charged = False

    @asynccontextmanager
    async def waiting(self):
        self.waits += 1
        yield

    def sent(self) -> None:
        self.charged = True

    def not_charged(self) -> None:
        self.charged = False


class Naps:
    """Sleeps that are noted and not slept."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def chat(**fields: Any) -> ModelRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], **fields}
    return prepared(parse(Api.CHAT, json.dumps(body).encode(), {}))


def messages(**headers: str) -> ModelRequest:
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}
    return prepared(parse(Api.MESSAGES, json.dumps(body).encode(), headers))


@asynccontextmanager
async def upstream_of(
    port: int, *, naps: Naps | None = None, retries: int = 4, api: Any = "openai", **fields: Any
):
    policy = HttpPolicy(
        retries=retries,
        connect_seconds=5,
        idle_seconds=fields.pop("idle", 30),
        sleep=naps or Naps(),
    )
    path = "/v1/" if api == "openai" else ""
    url = f"http://127.0.0.1:{port}{path}"
    upstream = HttpUpstream(
        name="local", api=api, base_url=url, key=fields.pop("key", KEY), policy=policy, **fields
    )
    try:
        yield upstream
    finally:
        await upstream.close()


async def answer(
    upstream: HttpUpstream, request: ModelRequest, progress: Watched | None = None
) -> tuple[int, bytes]:
    async with upstream.send(request, progress or Watched()) as reply:
        return reply.status, b"".join([chunk async for chunk in reply.body])


async def broken(
    upstream: HttpUpstream, request: ModelRequest, progress: Watched | None = None
) -> str:
    with pytest.raises(UpstreamBroken) as caught:
        await answer(upstream, request, progress)
    assert KEY not in str(caught.value)
    assert str(caught.value).isprintable()
    return str(caught.value)


# -- what goes out -------------------------------------------------------------------------------


async def test_only_our_own_headers_go_to_openai():
    async with provider(Play()) as there, upstream_of(there.port) as upstream:
        assert await answer(upstream, chat()) == (200, b"{}")
    (got,) = there.got
    assert got.path == "/v1/chat/completions"
    assert got.headers == {
        "host": f"127.0.0.1:{there.port}",
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "agenttrace-runner",
        "authorization": f"bearer {KEY}",
        "content-length": got.headers["content-length"],
    }


async def test_anthropic_gets_its_own_and_the_version_that_the_agent_named():
    async with provider(Play()) as there, upstream_of(there.port, api="anthropic") as upstream:
        await answer(upstream, messages())
        await answer(
            upstream, messages(**{"anthropic-version": "2031-01-02", "anthropic-beta": "x"})
        )
    first, second = there.got
    assert first.path == "/v1/messages"
    assert first.headers["x-api-key"] == KEY
    assert first.headers["anthropic-version"] == "2023-06-01"
    assert second.headers["anthropic-version"] == "2031-01-02"
    assert not {"authorization", "anthropic-beta"} & set(second.headers)


async def test_connections_are_kept_and_cookies_are_not():
    play = whole({}, headers={"content-type": "application/json", "set-cookie": "a=b"})
    async with provider(play) as there, upstream_of(there.port) as upstream:
        for _ in range(3):
            await answer(upstream, chat())
    assert {got.connection for got in there.got} == {1}
    assert not any("cookie" in got.headers for got in there.got)


async def test_a_stream_is_passed_on_as_it_comes():
    play = events({"n": 1}, HANG)
    async with provider(play) as there, upstream_of(there.port) as upstream:
        async with upstream.send(chat(stream=True), Watched()) as reply:
            assert reply.content_type == "text/event-stream"
            assert await anext(reply.body) == b'data: {"n": 1}\n\n'
        await there.gone.wait()  # the provider is told when nobody reads any more


# -- trouble that may pass -----------------------------------------------------------------------


async def test_retry_after_is_waited_for():
    plays = [
        Play(status=429, headers={"retry-after": "7"}),
        Play(status=429, headers={"retry-after-ms": "6500", "retry-after": "1"}),
        Play(
            status=429,
            headers={"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m9s"},
        ),
        Play(),
    ]
    naps, progress = Naps(), Watched()
    async with (
        provider(*plays) as there,
        upstream_of(there.port, naps=naps) as upstream,
        upstream.send(chat(), progress) as reply,
    ):
        assert (reply.status, reply.retries) == (200, 3)
    assert [round(seconds, 6) for seconds in naps.seconds] == [7.0, 6.5, 69.0]
    assert progress.waits == 3
    assert progress.charged


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
async def test_statuses_of_passing_trouble_are_asked_again_with_growing_pauses(status):
    naps = Naps()
    async with (
        provider(Play(status=status), Play(status=status), Play()) as there,
        upstream_of(there.port, naps=naps) as upstream,
    ):
        assert (await answer(upstream, chat()))[0] == 200
    assert len(naps.seconds) == 2
    assert all(0 <= seconds <= 30 for seconds in naps.seconds)


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422, 501])
async def test_other_errors_are_answers(status):
    progress = Watched()
    async with (
        provider(whole({"error": "x"}, status=status)) as there,
        upstream_of(there.port) as upstream,
    ):
        assert await answer(upstream, chat(), progress) == (status, b'{"error": "x"}')
    assert len(there.got) == 1
    assert not progress.charged


async def test_what_the_provider_says_of_retrying_counts():
    no = Play(status=503, headers={"x-should-retry": "false"})
    yes = Play(status=409, headers={"x-should-retry": "true"})
    no_money = whole({"error": {"code": "insufficient_quota"}}, status=429)
    for play, asked in ((no, 1), (yes, 5), (no_money, 1)):
        async with provider(play) as there, upstream_of(there.port) as upstream:
            await answer(upstream, chat())
        assert len(there.got) == asked


async def test_the_last_answer_is_passed_on_when_the_retries_are_used_up():
    async with provider(TROUBLE) as there, upstream_of(there.port, retries=2) as upstream:
        assert await answer(upstream, chat()) == (503, b'{"error": "busy"}')
    assert len(there.got) == 3


async def test_a_pause_longer_than_may_be_waited_is_not_begun():
    naps = Naps()
    late = Play(status=429, headers={"retry-after": "3600"})
    async with provider(late) as there, upstream_of(there.port, naps=naps) as upstream:
        assert (await answer(upstream, chat(), Watched(seconds_left=100)))[0] == 429
    assert not naps.seconds


async def test_a_provider_that_is_not_there_is_asked_again_and_nothing_was_sent():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))  # bound, and not listening: nobody else gets it either
        naps, progress = Naps(), Watched()
        async with upstream_of(listening.getsockname()[1], naps=naps) as upstream:
            assert "cannot be reached" in await broken(upstream, chat(), progress)
    assert len(naps.seconds) == 4
    assert not progress.charged


async def test_what_was_sent_is_not_sent_twice():
    progress = Watched()
    async with provider(Play(raw=b"")) as there, upstream_of(there.port) as upstream:
        await broken(upstream, chat(), progress)
    assert len(there.got) == 1
    assert progress.charged


# -- answers that are none ------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_not_followed(status):
    async with provider(Play()) as elsewhere:
        location = f"http://127.0.0.1:{elsewhere.port}/"
        play = Play(status=status, headers={"location": location})
        async with provider(play) as there, upstream_of(there.port) as upstream:
            progress = Watched()
            await broken(upstream, chat(), progress)
        assert not elsewhere.got
        assert not progress.charged


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_trouble_with_our_key_is_not_shown_to_the_agent(status):
    play = whole({"error": f"Incorrect key {KEY[:9]}***"}, status=status)
    async with provider(play) as there, upstream_of(there.port) as upstream:
        assert "sk-" not in await broken(upstream, chat())


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01garbage\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"x" * 1_000_000,
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
    ],
)
async def test_garbage_breaks_the_call_and_nothing_else(raw):
    async with provider(Play(raw=raw)) as there, upstream_of(there.port) as upstream:
        await broken(upstream, chat())


async def test_a_stream_that_is_cut_breaks_off_after_what_came():
    async with (
        provider(events({"n": 1}, ABORT)) as there,
        upstream_of(there.port) as upstream,
        upstream.send(chat(stream=True), Watched()) as reply,
    ):
        assert await anext(reply.body)
        with pytest.raises(UpstreamBroken):
            await anext(reply.body)


@pytest.mark.parametrize("play", [events(HANG), events({"n": 1}, HANG)])
async def test_silence_breaks_the_call(play):
    async with provider(play) as there, upstream_of(there.port, idle=0.2) as upstream:
        await broken(upstream, chat(stream=True))


async def test_an_endless_error_is_cut():
    play = Play(status=400, chunks=[b"x" * 60_000] * 100)
    async with provider(play) as there, upstream_of(there.port) as upstream:
        status, body = await answer(upstream, chat())
    assert (status, len(body)) == (400, 64 * 1024)


async def test_headers_of_the_provider_are_not_passed_on():
    play = Play(status=404, headers={"content-type": "text/html; x=\x7f", "x-secret": KEY})
    async with (
        provider(play) as there,
        upstream_of(there.port) as upstream,
        upstream.send(chat(), Watched()) as reply,
    ):
        assert reply.content_type == "text/plain; charset=utf-8"


# -- the key --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 400, 503])
@pytest.mark.parametrize("size", [1, 5, 1_000])
async def test_a_key_that_is_echoed_is_redacted(status, size):
    text = json.dumps({"you sent": f"Bearer {KEY}", "and": KEY[:10] + KEY}).encode()
    chunks = [text[start : start + size] for start in range(0, len(text), size)]
    async with (
        provider(Play(status=status, chunks=chunks)) as there,
        upstream_of(there.port, retries=0) as upstream,
    ):
        _, body = await answer(upstream, chat())
    assert body == text.replace(KEY.encode(), REDACTED)


async def test_a_key_that_is_no_header_is_not_told():
    async with provider(Play()) as there, upstream_of(there.port, key=KEY + "\nx: y") as upstream:
        await broken(upstream, chat())
    assert not there.got


@given(
    secret=st.text("ab", min_size=1, max_size=5),
    chunks=st.lists(st.text("abc", max_size=8).map(str.encode), max_size=8),
)
def test_no_cutting_lets_a_secret_through(secret, chunks):
    redaction = Redaction(secret)
    passed = b"".join([*map(redaction.feed, chunks), redaction.end()])
    assert passed == b"".join(chunks).replace(secret.encode(), REDACTED)


# -- the breaker ----------------------------------------------------------------------------------


def breakers_of(failures: int = 2, open_seconds: float = 60.0) -> SharedBreakers:
    policy = BreakerPolicy(failures=failures, successes=1, open_seconds=open_seconds)
    return SharedBreakers(MemoryBreakerStore(), policy)


async def test_an_upstream_that_keeps_failing_is_left_alone():
    breakers = breakers_of()
    async with (
        provider(TROUBLE) as there,
        upstream_of(there.port, retries=1, breakers=breakers) as upstream,
    ):
        for _ in range(2):
            assert (await answer(upstream, chat()))[0] == 503
        progress = Watched(seconds_left=5)
        assert "left alone" in await broken(upstream, chat(), progress)
    assert len(there.got) == 4  # a call counts once, however often it was sent
    assert not progress.charged
    (status,) = breakers.statuses()
    assert status.name == "model:local"


async def test_a_short_pause_of_the_breaker_is_waited_for():
    breakers = breakers_of(failures=1, open_seconds=0.2)

    class RealNaps(Naps):
        async def __call__(self, seconds: float) -> None:
            await super().__call__(seconds)
            await asyncio.sleep(seconds)

    async with provider(TROUBLE, Play()) as there:
        naps = RealNaps()
        async with upstream_of(there.port, naps=naps, retries=0, breakers=breakers) as upstream:
            assert (await answer(upstream, chat()))[0] == 503
            progress = Watched()
            assert (await answer(upstream, chat(), progress))[0] == 200
    assert progress.waits >= 1
    assert breakers.statuses() == ()


@pytest.mark.parametrize("play", [Play(status=429), whole({}, status=400)])
async def test_limits_and_refusals_say_that_it_is_well(play: Play):
    breakers = breakers_of(failures=1)
    async with (
        provider(play) as there,
        upstream_of(there.port, retries=0, breakers=breakers) as upstream,
    ):
        for _ in range(3):
            await answer(upstream, chat())
    assert len(there.got) == 3


async def test_a_call_that_is_given_up_says_nothing():
    breakers = breakers_of(failures=1)
    async with (
        provider(Play(chunks=[HANG])) as there,
        upstream_of(there.port, breakers=breakers) as upstream,
    ):
        call = asyncio.create_task(answer(upstream, chat()))
        await there.came.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert breakers.statuses() == ()


# -- how long it is asked to wait -----------------------------------------------------------------

NOW = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "12"}, 12),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "9" * 9}, 86_400),
        ({"retry-after": "9" * 99}, 0),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": f"{NOW + timedelta(seconds=40):%a, %d %b %Y %H:%M:%S GMT}"}, 40),
        ({"retry-after": f"{NOW - timedelta(seconds=40):%a, %d %b %Y %H:%M:%S GMT}"}, 0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-remaining-requests": "7", "x-ratelimit-reset-requests": "1h"}, 0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "x"}, 0),
    ],
)
def test_what_an_answer_asks_to_wait(headers, seconds):
    assert asked_seconds(headers, NOW) == pytest.approx(seconds)


@given(text=st.text(max_size=80))
def test_no_header_makes_it_raise(text):
    for name in ("retry-after", "retry-after-ms", "x-ratelimit-reset-tokens"):
        headers = {name: text, "x-ratelimit-remaining-tokens": "0"}
        assert 0 <= asked_seconds(headers, NOW) <= 86_400
