"""The agent's connections served, the deadline put off, the budget met; and nothing left after."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from runner.domain import EndingKind, GatewayUse, HttpInterface, Image, Limits, Prompt, Reply
from runner.evaluation.stages import Stopwatch
from runner.ports import Connection
from runner.testing import FakeSandbox
from runner.transport import ShimTransport, deadline
from runner.transport.conversation import ShimConversation
from runner.transport.frames import ACCEPTED_NUMBERS, WINDOW, Frame, Kind
from tests.unit.transport.scripted_shim import (
    LIMITS,
    SERVER,
    STARTED,
    STDIO,
    STOPPED,
    ScriptedShim,
    exited,
    frame,
    hello,
)

FIRST = ACCEPTED_NUMBERS
CONNECTED = frame(Kind.ACCEPTED, stream=FIRST)
PROMPT = Prompt(task_id="t", text="what?")
Serve = Callable[[Connection], Awaitable[None]]


async def echo(connection: Connection) -> None:
    while data := await connection.read():
        await connection.write(data)


class Access:
    """Implements ports.GatewayAccess with what the test wants of it."""

    def __init__(self, serve: Serve = echo, most: int = 2) -> None:
        self.max_connections = most
        self.excused_seconds = 0.0
        self.met = asyncio.Event()
        self.serving = asyncio.Event()
        self.ends: list[str] = []
        self._serve = serve

    @property
    def environment(self) -> Mapping[str, str]:
        return {"BASE": "{url}/v1", "HOME": "/not/ours"}

    async def serve(self, connection: Connection) -> None:
        self.serving.set()
        try:
            await self._serve(connection)
        except BaseException as error:
            self.ends.append(type(error).__name__)
            raise
        self.ends.append("")

    async def over(self) -> None:
        await self.met.wait()

    def use(self) -> GatewayUse:
        return GatewayUse()


@asynccontextmanager
async def talking(
    shim: ScriptedShim, access: Access | None, image: Image = STDIO, limits: Limits = LIMITS
) -> AsyncIterator[ShimConversation]:
    async with FakeSandbox().session(image, limits, Stopwatch()) as session:
        session.channel = shim  # type: ignore[assignment]
        before = asyncio.all_tasks()
        async with ShimTransport().open(session, image, limits, access) as talk:
            yield talk
        assert asyncio.all_tasks() == before, "a task was left"


async def asked(shim: ScriptedShim, access: Access | None, limits: Limits = LIMITS) -> Reply:
    async with talking(shim, access, limits=limits) as talk:
        await talk.ask(PROMPT, {"seed": 1})
        await talk.stop()
        return talk.reply()


def shim(*start: bytes | None) -> ScriptedShim:
    return ScriptedShim(hello(), {Kind.START: [[STARTED, *start]], Kind.STOP: [STOPPED]})


def data(payload: bytes, stream: int = FIRST) -> bytes:
    return frame(Kind.DATA, payload, stream)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the scripted shim is told without an event
            await asyncio.sleep(0.001)


# -- what the agent and the shim are told -------------------------------------------------------


async def test_the_agent_is_told_where_the_gateway_is() -> None:
    script = shim(exited())
    await asked(script, Access(most=7))
    (request,) = script.asked(Kind.START)
    assert request["relay"] == {"port": 4180, "connections": 7}
    assert request["env"]["BASE"] == "http://127.0.0.1:4180/v1"
    assert request["env"]["HOME"] == "/tmp", "the sandbox has the last word"
    config = json.loads(request["stdin"])["config"]
    assert config == {"seed": 1, "gateway_url": "http://127.0.0.1:4180"}


async def test_without_a_gateway_nothing_is_listened_to() -> None:
    script = shim(exited())
    await asked(script, None)
    (request,) = script.asked(Kind.START)
    assert "relay" not in request
    assert json.loads(request["stdin"])["config"] == {"seed": 1}


async def test_the_shim_keeps_descriptors_for_itself() -> None:
    script = shim(exited())
    limits = LIMITS.model_copy(update={"open_files": 64})
    await asked(script, Access(most=1000), limits)
    assert script.asked(Kind.START)[0]["relay"]["connections"] == 32


@pytest.mark.parametrize(("port", "gateway"), [(4180, 4181), (4181, 4180), (8000, 4180)])
async def test_a_server_of_the_agents_keeps_its_port(port: int, gateway: int) -> None:
    script = shim(exited(3))
    image = SERVER.model_copy(update={"interface": HttpInterface(command=("serve",), port=port)})
    async with talking(script, Access(), image) as talk:
        await talk.ask(PROMPT, {})
    (request,) = script.asked(Kind.START)
    assert request["relay"]["port"] == gateway
    assert request["env"]["BASE"] == f"http://127.0.0.1:{gateway}/v1"


# -- connections --------------------------------------------------------------------------------


async def test_a_connection_is_served_and_closed_after() -> None:
    script, access = shim(CONNECTED, data(b"hi"), frame(Kind.END, stream=FIRST)), Access()
    async with talking(script, access) as talk:
        asking = asyncio.create_task(talk.ask(PROMPT, {}))
        await until(lambda: access.ends)
        script.say(exited())
        assert (await asking).kind is EndingKind.ANSWERED
    said = [request for request in script.requests if request.stream == FIRST]
    assert said == [Frame(Kind.DATA, b"hi", FIRST), Frame(Kind.CLOSE, b"", FIRST)]
    assert access.ends == [""]


async def test_what_is_open_at_the_end_is_cancelled_without_a_word() -> None:
    script, access = shim(CONNECTED, frame(Kind.ACCEPTED, stream=FIRST + 1)), Access()
    async with talking(script, access) as talk:
        asking = asyncio.create_task(talk.ask(PROMPT, {}))
        await asyncio.wait_for(access.serving.wait(), 20)
        script.say(exited())
        await asking
        assert access.ends == ["CancelledError"] * 2
        for late in (data(b"x"), frame(Kind.CLOSE, stream=FIRST)):
            script.say(late)
        for number in range(10):
            script.say(frame(Kind.ACCEPTED, stream=FIRST + 10 + number))
        assert await talk.stop(), "what comes after the end is dropped"
    assert [r.kind for r in script.requests if r.stream] == []


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (None, EndingKind.SANDBOX_ENDED),
        (b"\xff" * 9, EndingKind.PROTOCOL_BROKEN),
        (data(b"x" * 60_000) * (WINDOW // 60_000 + 1), EndingKind.PROTOCOL_BROKEN),
        (frame(Kind.ACCEPTED, stream=FIRST), EndingKind.PROTOCOL_BROKEN),
        (frame(Kind.ACCEPTED, stream=16), EndingKind.PROTOCOL_BROKEN),
    ],
)
async def test_every_other_end_leaves_nothing_either(last: bytes | None, kind: EndingKind) -> None:
    async def never_read(_connection: Connection) -> None:
        await asyncio.get_running_loop().create_future()

    access = Access(never_read)
    reply = await asked(shim(CONNECTED, last), access)
    assert reply.ending.kind is kind


async def test_a_connection_where_none_was_offered_is_a_violation() -> None:
    reply = await asked(shim(CONNECTED), None)
    assert reply.ending.kind is EndingKind.PROTOCOL_BROKEN


async def test_an_interrupted_question_leaves_nothing() -> None:
    script, access = shim(CONNECTED), Access()
    async with talking(script, access) as talk:
        asking = asyncio.create_task(talk.ask(PROMPT, {}))
        await asyncio.wait_for(access.serving.wait(), 20)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert access.ends == ["CancelledError"]


async def test_a_fault_in_serving_ends_that_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(connection: Connection) -> None:
        await connection.read()
        raise ZeroDivisionError

    script, access = shim(CONNECTED, data(b"x")), Access(fail)
    with caplog.at_level(logging.ERROR):
        async with talking(script, access) as talk:
            asking = asyncio.create_task(talk.ask(PROMPT, {}))
            await until(lambda: any(request.kind is Kind.CLOSE for request in script.requests))
            script.say(exited())
            assert (await asking).kind is EndingKind.ANSWERED
    assert access.ends == ["ZeroDivisionError"]
    assert len(caplog.records) == 1


async def test_an_agent_that_goes_away_says_nothing_in_our_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def write_on(connection: Connection) -> None:
        while True:
            await connection.write(b"x" * 1000)
            await asyncio.sleep(0)

    script, access = shim(CONNECTED, frame(Kind.CLOSE, stream=FIRST)), Access(write_on)
    with caplog.at_level(logging.DEBUG, logger="runner"):
        async with talking(script, access) as talk:
            asking = asyncio.create_task(talk.ask(PROMPT, {}))
            await until(lambda: any(request.kind is Kind.CLOSE for request in script.requests))
            script.say(exited())
            await asking
    assert access.ends == ["ConnectionResetError"]
    assert caplog.records == []


# -- the deadline and the budget ----------------------------------------------------------------

BRIEF = LIMITS.model_copy(update={"time_seconds": 0.1})


async def test_excused_time_puts_the_deadline_off_and_is_not_the_agents() -> None:
    async def wait_for_a_provider(connection: Connection) -> None:
        began = asyncio.get_running_loop().time()
        while access.excused_seconds < 0.5:
            await asyncio.sleep(0.001)
            access.excused_seconds = asyncio.get_running_loop().time() - began
        script.say(exited())
        await connection.read()

    script, access = shim(CONNECTED), Access(wait_for_a_provider)
    reply = await asked(script, access, BRIEF)
    assert reply.ending.kind is EndingKind.ANSWERED
    assert reply.provider_wait_seconds == access.excused_seconds >= 0.5
    assert reply.wall_seconds < 0.1


async def test_the_deadline_comes_after_what_was_excused() -> None:
    access = Access()
    access.excused_seconds = 0.2
    reply = await asked(shim(), access, BRIEF)
    assert reply.ending.kind is EndingKind.TIMED_OUT
    assert reply.provider_wait_seconds == 0.2
    assert 0.1 <= reply.wall_seconds < 20


async def test_an_agent_that_goes_on_over_budget_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "BUDGET_GRACE_SECONDS", 0.01)
    access = Access()
    access.met.set()
    reply = await asked(shim(CONNECTED), access)
    assert reply.ending.kind is EndingKind.BUDGET_SPENT
    assert reply.ending.detail == "the gateway refused a call over budget"


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (exited(), EndingKind.ANSWERED),
        (exited(3), EndingKind.CRASHED),
        (None, EndingKind.SANDBOX_ENDED),
    ],
)
async def test_an_ending_of_its_own_within_the_grace_stands(
    last: bytes | None, kind: EndingKind
) -> None:
    async def refuse(connection: Connection) -> None:
        access.met.set()
        await asyncio.sleep(0)
        script.say(last)
        await connection.read()

    script, access = shim(CONNECTED), Access(refuse)
    assert (await asked(script, access)).ending.kind is kind


async def test_the_grace_is_no_longer_than_the_time_left() -> None:
    access = Access()
    access.met.set()
    reply = await asked(shim(), access, BRIEF)
    assert reply.ending.kind is EndingKind.BUDGET_SPENT
    assert reply.wall_seconds < deadline.BUDGET_GRACE_SECONDS
