"""Asking an agent behind a URL: what counts as its answer, its failure, and nobody's."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import logging
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpcore
import pytest
from pydantic import SecretStr

from runner.domain import EndingKind, Limits, Prompt
from runner.errors import InfrastructureError, InvalidSubmission
from runner.transport.connections import Outside, resolve
from runner.transport.patience import MAX_RETRY_AFTER_SECONDS, retry_after_seconds
from runner.transport.remote import RemoteAgent, RemotePolicy, reach
from tests.unit.transport.remote_endpoint import (
    BUSY,
    LIMITS,
    OK,
    POLICY,
    PROMPT,
    PUBLIC,
    Behaviour,
    World,
    asked,
    endless,
    endpoint,
    raw,
    says,
    serving,
    silent,
)

SHORT = Limits(time_seconds=0.3, output_bytes=100)
TOKEN = "hunter22-hunter22"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def ended(*behaviours: Behaviour, limits: Limits = LIMITS) -> tuple[EndingKind, str]:
    """How an attempt ends against an endpoint that behaves like that."""
    async with serving(*behaviours) as served:
        reply = (await asked(served.url, limits=limits)).reply
        return reply.ending.kind, reply.ending.detail


# -- the exchange -------------------------------------------------------------------------------


async def test_an_answer() -> None:
    usage = {"total_tokens": 7, "model": "ignored", "cost_usd": 0.5}
    async with serving(says({"output": "42", "usage": usage})) as served:
        made = await asked(served.url)
    assert json.loads(served.bodies[0]) == {"prompt": "what?", "config": {"seed": 1}}
    assert served.heads[0].startswith("POST /agent HTTP/1.1\r\n")
    sent = [served.header(n) for n in ("Host", "Accept-Encoding", "Connection", "Content-Type")]
    assert sent == [f"127.0.0.1:{served.port}", "identity", "close", "application/json"]
    assert served.header("Authorization") is None
    assert (made.task_id, made.measurement, made.sandbox, made.artifacts) == ("t", None, None, ())
    assert (made.reply.ending.kind, made.reply.output) == (EndingKind.ANSWERED, "42")
    assert made.reply.claims == {"total_tokens": 7, "cost_usd": 0.5}
    assert made.reply.wall_seconds > 0
    assert made.reply.provider_wait_seconds == 0
    assert [stage.name for stage in made.stages] == ["connect", "ask"]


async def test_each_attempt_has_a_connection_and_a_look_up_of_its_own() -> None:
    world = World(["127.0.0.1"])
    async with serving(OK) as served:
        agent = RemoteAgent(endpoint(f"http://agent.test:{served.port}"), POLICY, world.outside)
        for _ in range(2):
            await agent.attempt(PROMPT, {}, LIMITS, None)  # type: ignore[arg-type]
    assert world.looked_up == ["agent.test"] * 2
    assert world.dialler.dialled == ["127.0.0.1"] * 2
    assert served.header("Host") == f"agent.test:{served.port}"


@pytest.mark.parametrize(
    ("body", "output", "length"),
    [("x" * 100, "x" * 100, 100), ("x" * 101, None, 101)],
)
async def test_an_answer_is_cut_at_its_limit(body: str, output: str | None, length: int) -> None:
    async with serving(says({"output": body})) as served:
        reply = (await asked(served.url)).reply
    assert (reply.output_bytes, reply.output_truncated) == (length, output is None)
    assert output is None or reply.output == output
    assert len(reply.output) <= LIMITS.output_bytes


@pytest.mark.parametrize(
    ("behaviour", "kind", "says_so"),
    [
        (says(b"42"), EndingKind.INVALID_OUTPUT, "output"),
        (says(b"{"), EndingKind.INVALID_OUTPUT, "not JSON"),
        (says(b"[" * 4000), EndingKind.INVALID_OUTPUT, "not JSON"),
        (says(b"9" * 4400), EndingKind.INVALID_OUTPUT, "not JSON"),
        (says(b"\xff\xfe"), EndingKind.INVALID_OUTPUT, "not JSON"),
        (says({"output": 42}), EndingKind.INVALID_OUTPUT, "output"),
        (says(b'{"output": "\\ud800"}'), EndingKind.INVALID_OUTPUT, "UTF-8"),
        (
            says(gzip.compress(b"0" * 10_000_000), headers=["Content-Encoding: gzip"]),
            EndingKind.INVALID_OUTPUT,
            "compressed",
        ),
        (
            raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            EndingKind.CRASHED,
            "no HTTP/1.1",
        ),
        (says({}, "500 Oops"), EndingKind.CRASHED, "500"),
        (says({}, "201 Created"), EndingKind.CRASHED, "201"),
        (says({}, "401 Unauthorized"), EndingKind.CRASHED, "401"),
        (
            says(b"", "302 Found", ["Location: http://169.254.169.254/"]),
            EndingKind.CRASHED,
            "302: redirects are not followed",
        ),
        (says(b"", "307 Again", ["Location: /"]), EndingKind.CRASHED, "redirects"),
        (raw(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"), EndingKind.CRASHED, "broke off"),
        (raw(b""), EndingKind.CRASHED, "broke off"),
        (raw(b"SSH-2.0-x\r\n"), EndingKind.CRASHED, "broke off"),
        (says({"output": "42"}, length=5000), EndingKind.CRASHED, "broke off"),
        (endless(b"HTTP/1.1 200 OK\r\n", b"X-More: yes\r\n" * 500), EndingKind.CRASHED, "broke"),
        (endless(CHUNKED, b"1000\r\n" + b" " * 4096 + b"\r\n"), EndingKind.OUTPUT_EXCEEDED, "4696"),
        (
            endless(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 4096),
            EndingKind.OUTPUT_EXCEEDED,
            "longer than",
        ),
    ],
)
async def test_what_is_no_answer(behaviour: Behaviour, kind: EndingKind, says_so: str) -> None:
    found, detail = await ended(behaviour)
    assert (found, says_so in detail) == (kind, True), detail


@pytest.mark.parametrize(
    "behaviour",
    [
        silent,
        endless(CHUNKED, b"1\r\n \r\n", 0.01),
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.001),
        endless(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"y", 0.01),
        endless(b"HTTP/1.1 500 No\r\n\r\n", b" ", 0.01),
    ],
)
async def test_slow_ones_end_at_the_deadline(behaviour: Behaviour) -> None:
    assert await ended(behaviour, limits=SHORT) == (EndingKind.TIMED_OUT, "no answer within 0.3 s")


async def test_what_never_reads_ends_at_the_deadline() -> None:
    deaf = socket.create_server(("127.0.0.1", 0), backlog=1)
    with deaf:
        prompt = Prompt(task_id="t", text="x" * 8_000_000)
        limits = SHORT.model_copy(update={"input_bytes": 9_000_000})
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        assert (await asked(url, prompt=prompt, limits=limits)).reply.ending.kind is (
            EndingKind.TIMED_OUT
        )


async def test_a_refusal_is_shown_inert_and_short() -> None:
    _, detail = await ended(says(b"\x1b[2J<b>" + b"n" * 100_000, "500 \x1b[31m"))
    assert "\\x1b[2J<b>nnn" in detail
    assert detail.isprintable()
    assert len(detail) < 300


async def test_a_broken_connection_is_not_asked_again() -> None:
    async with serving(raw(b"HTTP/1.1 200 OK\r\n"), OK) as served:
        reply = (await asked(served.url)).reply
    assert reply.ending.kind is EndingKind.CRASHED
    assert len(served.heads) == 1


async def test_a_prompt_beyond_the_limit_is_our_fault() -> None:
    limits = LIMITS.model_copy(update={"input_bytes": 5})
    assert (await _ask_ok(limits, "12345")).kind is EndingKind.ANSWERED
    with pytest.raises(InfrastructureError, match="6 bytes"):
        await _ask_ok(limits, "1234\u00e9")


async def _ask_ok(limits: Limits, text: str) -> Any:
    async with serving(OK) as served:
        prompt = Prompt(task_id="t", text=text)
        return (await asked(served.url, limits=limits, prompt=prompt)).reply.ending


# -- asked again --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["429 Later", "502 Bad", "503 Busy", "504 Late"])
async def test_not_now_is_asked_again(status: str) -> None:
    world = World(["127.0.0.1"])
    async with serving(says({}, status), says({}, status, ["Retry-After: 7"]), OK) as served:
        made = await asked(served.url, world)
    assert made.reply.output == "42"
    assert len(world.slept) == 2
    assert world.slept[1] == 7
    assert made.reply.provider_wait_seconds >= sum(world.slept)
    assert made.reply.wall_seconds < 7
    names = [stage.name for stage in made.stages]
    assert names == ["connect", "ask", "wait", "connect", "ask", "wait", "connect", "ask"]


@pytest.mark.parametrize("status", ["400 No", "404 No", "408 No", "500 No", "501 No", "505 No"])
async def test_other_statuses_are_not_asked_again(status: str) -> None:
    async with serving(says({}, status), OK) as served:
        assert (await asked(served.url)).reply.ending.kind is EndingKind.CRASHED
    assert len(served.heads) == 1


@pytest.mark.parametrize(
    "failure", [httpcore.ConnectError("refused"), httpcore.ConnectTimeout("slow")]
)
async def test_a_connection_that_fails_is_tried_again(failure: Exception) -> None:
    world = World(["127.0.0.1"], failures=[failure])
    async with serving(OK) as served:
        made = await asked(served.url, world)
    assert made.reply.output == "42"
    assert len(world.slept) == 1
    assert made.reply.provider_wait_seconds >= world.slept[0]
    assert [stage.name for stage in made.stages] == ["connect", "wait", "connect", "ask"]


async def test_a_name_that_is_not_found_is_looked_up_again() -> None:
    world = World(OSError(-3, "Temporary failure"), [], ["127.0.0.1"])
    async with serving(OK) as served:
        made = await asked(f"http://agent.test:{served.port}/", world)
    assert made.reply.output == "42"
    assert len(world.slept) == 2


async def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    made = await asked(f"http://127.0.0.1:{port}/", world := World([]))
    assert made.reply.ending.kind is EndingKind.UNREACHABLE
    assert "Connection refused (tries: 5" in made.reply.ending.detail
    assert len(world.slept) == POLICY.retries
    assert made.reply.wall_seconds == 0
    assert made.reply.provider_wait_seconds >= sum(world.slept)


async def test_a_resolver_that_hangs_is_given_up() -> None:
    async def hang(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    policy = RemotePolicy(connect_seconds=0.05, retries=0)
    agent = RemoteAgent(endpoint("https://agent.test/"), policy, Outside(resolve=hang))
    made = await agent.attempt(PROMPT, {}, LIMITS, None)  # type: ignore[arg-type]
    assert made.reply.ending.kind is EndingKind.UNREACHABLE
    assert "within 0.05 s" in made.reply.ending.detail


async def test_a_busy_provider_is_left_alone_after_the_retries() -> None:
    world = World([])
    async with serving(BUSY) as served:
        made = await asked(served.url, world)
    assert len(served.heads) == 1 + POLICY.retries
    assert made.reply.ending.kind is EndingKind.UNREACHABLE
    assert "HTTP status 503 (tries: 5" in made.reply.ending.detail
    assert world.slept == sorted(world.slept)  # each longer than the one before
    assert made.reply.wall_seconds == 0


async def test_waiting_has_an_end() -> None:
    busy = says({}, "429 Later", ["Retry-After: 50"])
    world = World([])
    async with serving(busy) as served:
        made = await asked(served.url, world)
    assert world.slept == [50, 50]  # a third would be more than 120 s
    assert made.reply.ending.kind is EndingKind.UNREACHABLE


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("9" * 5000, MAX_RETRY_AFTER_SECONDS),
        ("", 0.0),
        ("-5", 0.0),
        ("1e9", 0.0),
        ("nan", 0.0),
        ("soon", 0.0),
        ("x" * 100_000, 0.0),
        ("Wed, 99 Jan 2026 00:00:00 GMT", 0.0),
        ("Thu, 01 Jan 99999 00:00:00 GMT", 0.0),
        ("Fri, 02 Jan 2026 00:00:30 GMT", 30.0),
        ("Fri, 02 Jan 2026 00:00:30 -0000", 30.0),
        ("Thu, 01 Jan 2026 00:00:00 GMT", 0.0),
        ("Fri, 02 Jan 2099 00:00:00 GMT", MAX_RETRY_AFTER_SECONDS),
    ],
)
def test_retry_after(header: str, seconds: float) -> None:
    assert retry_after_seconds(header, datetime(2026, 1, 2, tzinfo=UTC)) == seconds


async def test_a_date_is_waited_for() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    world = World([])
    async with serving(says({}, "503 Busy", [f"Retry-After: {date}"]), OK) as served:
        assert (await asked(served.url, world)).reply.output == "42"
    assert 30 < world.slept[0] <= 60


# -- where it may connect to --------------------------------------------------------------------


async def test_the_address_checked_is_the_address_connected_to() -> None:
    world = World([PUBLIC], ["127.0.0.2"])
    async with serving(BUSY, OK) as served:
        made = await asked(f"http://agent.test:{served.port}/", world)
    assert made.reply.ending.kind is EndingKind.PROTOCOL_BROKEN
    assert "not a public address" in made.reply.ending.detail
    assert "127.0.0.2" not in made.reply.ending.detail
    assert world.dialler.dialled == [PUBLIC]
    assert len(served.heads) == 1


async def test_of_a_mixed_answer_only_what_is_allowed_is_tried() -> None:
    world = World(["10.0.0.1", "::ffff:10.0.0.1", PUBLIC, "169.254.169.254", PUBLIC, "nonsense"])
    async with serving(OK) as served:
        assert (await asked(f"http://agent.test:{served.port}/", world)).reply.output == "42"
    assert world.dialler.dialled == [PUBLIC]


async def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    world = World([PUBLIC, "8.8.8.8"], failures=[httpcore.ConnectError("refused")])
    async with serving(OK) as served:
        assert (await asked(f"http://agent.test:{served.port}/", world)).reply.output == "42"
    assert world.dialler.dialled == [PUBLIC, "8.8.8.8"]
    assert world.slept == []


@pytest.mark.parametrize("host", ["127.0.0.2", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]"])
async def test_an_address_that_is_not_listed_is_refused(host: str) -> None:
    made = await asked(f"http://{host}/", world := World([]))
    assert made.reply.ending.kind is EndingKind.PROTOCOL_BROKEN
    assert (world.dialler.dialled, world.slept) == ([], [])


def test_plain_http_has_to_be_allowed() -> None:
    with pytest.raises(InvalidSubmission, match="not encrypted"):
        RemoteAgent(endpoint("http://127.0.0.1/"), RemotePolicy())


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    assert (await ended(OK))[0] is EndingKind.ANSWERED


async def test_the_systems_resolver() -> None:
    assert "127.0.0.1" in await resolve("127.0.0.1", 80)
    with pytest.raises(OSError, match=r"."):
        await resolve("no-such-name.invalid", 80)


# -- credentials --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        (
            {"auth_type": "bearer", "auth_credentials": {"token": TOKEN}},
            "Authorization",
            f"Bearer {TOKEN}",
        ),
        (
            {"auth_type": "bearer", "auth_env": "AGENT_TOKEN"},
            "Authorization",
            "Bearer from-the-environment",
        ),
        ({"auth_type": "api_key", "auth_credentials": {"key": TOKEN}}, "X-API-Key", TOKEN),
        (
            {"auth_type": "api_key", "auth_env": "AGENT_TOKEN", "auth_header": "X-Mine"},
            "X-Mine",
            "from-the-environment",
        ),
        (
            {"auth_type": "api_key", "auth_credentials": {"key": TOKEN, "header": "X-Other"}},
            "X-Other",
            TOKEN,
        ),
        ({"headers": {"X-Tenant": TOKEN}}, "X-Tenant", TOKEN),
    ],
)
async def test_credentials_are_sent_as_headers(
    given: dict[str, Any], name: str, value: str
) -> None:
    async with serving(OK) as served:
        await asked(endpoint(served.url, **given))
    assert served.header(name) == value


@pytest.mark.parametrize(
    ("given", "says_so"),
    [
        ({"auth_type": "bearer"}, "without a token"),
        ({"auth_type": "api_key"}, "without a key"),
        ({"auth_type": "bearer", "auth_env": "HOME"}, "remote.credential_variables"),
        ({"auth_type": "bearer", "auth_env": "AGENT_OTHER"}, "is not set"),
        ({"headers": {"Host": TOKEN}}, "is the runner's"),
        ({"headers": {"Transfer-Encoding": TOKEN}}, "is the runner's"),
        ({"headers": {"Proxy-Authorization": TOKEN}}, "is the runner's"),
        ({"headers": {"X\r\nHost": TOKEN}}, "not a header's name"),
        ({"headers": {"X-A": f"{TOKEN}\r\nHost: b"}}, "not printable"),
        ({"headers": {"X-A": f"{TOKEN}\u00e9"}}, "not printable"),
        ({"headers": {"X-A": TOKEN, "x-a": TOKEN}}, "twice"),
        ({"headers": {"X-A": TOKEN * 1000}}, "longer than"),
        (
            {
                "auth_type": "bearer",
                "auth_credentials": {"token": TOKEN},
                "headers": {"authorization": "x"},
            },
            "twice",
        ),
        ({"auth_type": "bearer", "auth_credentials": {"token": f"{TOKEN}\n"}}, "not printable"),
    ],
)
def test_what_cannot_be_sent_is_refused_and_not_shown(given: dict[str, Any], says_so: str) -> None:
    with pytest.raises(InvalidSubmission) as caught:
        RemoteAgent(endpoint("https://a.example/", **given), POLICY)
    assert says_so in str(caught.value)
    assert "hunter22" not in str(caught.value)
    assert caught.value.remedy


def with_token(url: str) -> Any:
    given = {"auth_type": "bearer", "auth_credentials": {"token": TOKEN}}
    return endpoint(url, **given, headers={"X-Short": "hunter22"})


@pytest.mark.parametrize("address", [PUBLIC, "10.0.0.1", "::ffff:127.0.0.1"])
async def test_credentials_stay_here_over_plain_http(address: str) -> None:
    world = World([address])
    open_policy = RemotePolicy(
        allow_plain_http=True, allow_addresses=POLICY.allow_addresses[:0] + _networks("10.0.0.0/8")
    )
    made = await asked(with_token("http://agent.test:80/"), world, open_policy)
    assert made.reply.ending.kind is EndingKind.PROTOCOL_BROKEN
    assert world.dialler.dialled == []


def _networks(*texts: str) -> Any:
    from runner.transport.addresses import parse_networks

    return parse_networks(texts)


@pytest.mark.parametrize(
    "behaviour",
    [
        says({"output": f"you said {TOKEN}", "usage": {TOKEN: 1}}),
        says(f"bad token {TOKEN} (hunter22)".encode(), "403 No", [f"X-Echo: {TOKEN}"]),
        says(b"", f"503 {TOKEN}", [f"Retry-After: {TOKEN}"]),
        says(b"", "302 Found", [f"Location: /{TOKEN}"]),
        raw(f"HTTP/1.1 200 OK\r\n{TOKEN}\r\n\r\n".encode()),
        raw(f"{TOKEN}\r\n\r\n".encode()),
    ],
)
async def test_secrets_are_seen_by_the_endpoint_alone(
    behaviour: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(behaviour) as served:
        where = with_token(served.url)
        agent = RemoteAgent(where, POLICY, World([]).outside)
        made = await agent.attempt(PROMPT, {}, LIMITS, None)  # type: ignore[arg-type]
    assert served.header("Authorization") == f"Bearer {TOKEN}"
    shown = [caplog.text, made.model_dump_json(), repr(made), repr(vars(agent)), repr(where)]
    assert not [text for text in shown if "hunter22" in text]


async def test_a_short_secret_is_no_reason_to_change_an_answer() -> None:
    async with serving(OK) as served:
        given = {"auth_type": "api_key", "auth_credentials": {"key": SecretStr("42")}}
        assert (await asked(endpoint(served.url, **given))).reply.output == "42"


# -- reach --------------------------------------------------------------------------------------


async def test_reach_connects_and_sends_nothing() -> None:
    async with serving(OK) as served:
        line = await reach(endpoint(served.url), POLICY)
    assert line.startswith(f"reached 127.0.0.1:{served.port} in ")
    assert line.endswith(" ms, without TLS")
    assert served.heads == []


@pytest.mark.parametrize(
    ("url", "answer", "says_so"),
    [
        ("http://agent.test/", ["10.0.0.1"], "not a public address"),
        ("http://169.254.169.254/", [], "not a public address"),
        ("http://agent.test/", OSError(-2, "Name or service not known"), "cannot be looked up"),
        ("http://agent.test/", [], "has no address"),
        ("http://0x7f.1/", [], "odd spelling"),
    ],
)
async def test_reach_says_what_to_do(url: str, answer: Any, says_so: str) -> None:
    with pytest.raises(InvalidSubmission) as caught:
        await reach(endpoint(url), POLICY, World(answer).outside)
    assert says_so in caught.value.message
    assert caught.value.remedy


async def test_reach_of_a_closed_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(InvalidSubmission, match="Connection refused"):
        await reach(endpoint(f"http://127.0.0.1:{port}/"), POLICY)


# -- nothing is left ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "behaviour", [silent, endless(CHUNKED, b"1\r\n \r\n", 0.001), BUSY], ids=str
)
async def test_cancelled_at_any_time_nothing_is_left(behaviour: Behaviour) -> None:
    async with serving(behaviour) as served:
        world, sleeping = World([]), asyncio.Event()

        async def sleep(seconds: float) -> None:
            sleeping.set()
            await asyncio.Event().wait()

        outside = Outside(resolve=world.resolve, backend=world.dialler, sleep=sleep)
        agent = RemoteAgent(endpoint(served.url), POLICY, outside)
        for turns in range(0, 40, 3):
            task = asyncio.create_task(
                agent.attempt(PROMPT, {}, LIMITS, None)  # type: ignore[arg-type]
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        served.was_asked.clear()
        sleeping.clear()
        task = asyncio.create_task(
            agent.attempt(PROMPT, {}, LIMITS, None)  # type: ignore[arg-type]
        )
        await (sleeping if behaviour is BUSY else served.was_asked).wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await _settled()


@pytest.mark.parametrize(
    "behaviour", [OK, BUSY, silent, raw(b""), endless(CHUNKED, b"1000\r\n" + b" " * 4096 + b"\r\n")]
)
async def test_when_an_attempt_has_ended_nothing_is_left(behaviour: Behaviour) -> None:
    async with serving(behaviour) as served:
        await asked(served.url, limits=SHORT)
    await _settled()


async def _settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    gc.collect()  # a socket left open would be a ResourceWarning, which is an error here
