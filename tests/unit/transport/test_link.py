"""Frames sorted to those who wait for them, and every wait ended when nothing more can come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from runner.errors import ProtocolViolation
from runner.testing import ScriptedChannel
from runner.transport.frames import (
    ACCEPTED_NUMBERS,
    COUNT,
    MAX_PAYLOAD,
    WINDOW,
    Frame,
    Kind,
    encode,
)
from runner.transport.link import QUEUED_FRAMES, Link, LinkEnded
from runner.transport.stream import Stream
from tests.unit.transport.scripted_shim import ScriptedShim

FIRST = ACCEPTED_NUMBERS
MOST = 3


class Accepting:
    """A link to a scripted shim, and what the agent has connected to so far."""

    def __init__(self) -> None:
        self.shim = ScriptedShim(b"", {})
        self.link = Link(self.shim)
        self.streams: list[Stream] = []

    def say(self, kind: Kind, payload: bytes = b"", stream: int = FIRST) -> None:
        self.shim.say(encode(Frame(kind, payload, stream)))

    async def settled(self) -> None:
        """All that the shim has said so far has been sorted."""
        self.say(Kind.CGROUP, b"{}", 0)
        await asyncio.wait_for(self.link.expect(Kind.CGROUP), 20)

    async def connected(self, number: int = FIRST) -> Stream:
        self.say(Kind.ACCEPTED, stream=number)
        await self.settled()
        return self.streams[-1]

    def told(self, number: int = FIRST) -> list[Frame]:
        """What the host has sent on a stream."""
        return [request for request in self.shim.requests if request.stream == number]

    async def broken(self) -> str:
        """What the violation says that the shim's last words were."""
        with pytest.raises(ProtocolViolation) as caught:
            await asyncio.wait_for(self.link.expect(Kind.STOPPED), 20)
        return str(caught.value)


@asynccontextmanager
async def accepting(most: int = MOST) -> AsyncIterator[Accepting]:
    made = Accepting()
    made.link.accept(most, made.streams.append)
    made.link.start()
    try:
        yield made
    finally:
        await made.link.close()


async def test_the_end_is_told_to_everybody_and_more_than_once() -> None:
    frames = [Frame(Kind.ACCEPTED, stream=FIRST), Frame(Kind.STOPPED, b"{}")]
    link, streams = Link(ScriptedChannel([b"".join(map(encode, frames))])), list[Stream]()
    link.accept(MOST, streams.append)
    link.start()
    assert (await link.next()).kind is Kind.STOPPED
    for _ in range(3):
        with pytest.raises(LinkEnded):
            await link.next()
        assert await streams[0].read() == b""
        with pytest.raises(ConnectionError):
            await streams[0].write(b"x")
    with pytest.raises(LinkEnded):
        await link.send(Kind.STOP)
    with pytest.raises(LinkEnded):
        await link.dial(16, 8000)
    await streams[0].close()
    await link.close()


async def test_a_violation_is_told_to_everybody_and_more_than_once() -> None:
    link = Link(ScriptedChannel([b"\xff" * 9]))
    link.start()
    for _ in range(3):
        with pytest.raises(ProtocolViolation):
            await link.expect(Kind.HELLO)
    await link.close()


async def test_frames_go_where_they_are_waited_for() -> None:
    async with accepting() as made:
        stream = await made.connected()
        made.say(Kind.DATA, b"one")
        made.say(Kind.DATA, b"nobody's", 99)
        made.say(Kind.OUTPUT, b"skipped", 1)
        made.say(Kind.STOPPED, b"{}", 0)
        made.say(Kind.END)
        assert (await made.link.expect(Kind.STOPPED)).payload == b"{}"
        assert [await stream.read(), await stream.read(), await stream.read()] == [b"one", b"", b""]


async def test_a_flood_waits_for_whoever_reads_it() -> None:
    shim = ScriptedShim(b"", {})
    link = Link(shim)
    link.start()
    for _ in range(10 * QUEUED_FRAMES):
        shim.say(encode(Frame(Kind.OUTPUT, b"x", 1)))
    shim.say(encode(Frame(Kind.STOPPED)))
    for _ in range(100):
        await asyncio.sleep(0)
    assert link._control.qsize() == QUEUED_FRAMES
    assert (await link.expect(Kind.STOPPED)).kind is Kind.STOPPED
    await link.close()


async def test_closing_ends_a_reader_that_waits() -> None:
    link = Link(ScriptedShim(b"", {}))
    link.start()
    await link.close()
    await link.close()


# -- the agent's connections --------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 16, FIRST - 1])
async def test_a_connection_of_the_agents_has_a_number_of_its_own_kind(number: int) -> None:
    async with accepting() as made:
        made.say(Kind.ACCEPTED, stream=number)
        assert "no shim would accept" in await made.broken()


async def test_a_connection_is_accepted_once() -> None:
    async with accepting() as made:
        await made.connected()
        made.say(Kind.ACCEPTED)
        assert "no shim would accept" in await made.broken()


async def test_nothing_is_accepted_where_nothing_is_offered() -> None:
    async with accepting() as made:
        made.link._accept = None
        made.say(Kind.ACCEPTED)
        assert "no shim would accept" in await made.broken()


async def test_no_more_connections_than_agreed_at_once_and_as_many_as_you_like_in_turn() -> None:
    async with accepting() as made:
        for number in range(10 * MOST):
            await (await made.connected(FIRST + number)).close()
        assert [len(made.told(FIRST + number)) for number in range(10 * MOST)] == [1] * 10 * MOST
        for number in range(MOST):
            await made.connected(FIRST + 100 + number)
        made.say(Kind.ACCEPTED, stream=FIRST + 1000)
        assert "no shim would accept" in await made.broken()


async def test_a_connection_counts_until_we_close_it_whatever_the_agent_does() -> None:
    async with accepting(most=1) as made:
        await made.connected()
        made.say(Kind.CLOSE)
        made.say(Kind.ACCEPTED, stream=FIRST + 1)
        assert "no shim would accept" in await made.broken()


# -- the window ---------------------------------------------------------------------------------


async def test_a_full_window_of_data_is_taken_unread_and_not_a_byte_more() -> None:
    async with accepting() as made:
        stream = await made.connected()
        for _ in range(WINDOW // MAX_PAYLOAD):
            made.say(Kind.DATA, b"x" * MAX_PAYLOAD)
        await made.settled()
        made.say(Kind.DATA, b"y")
        assert await made.broken() == "1 bytes where 0 may come"
        assert await stream.read() == b"x" * WINDOW
        assert await stream.read() == b""


async def test_an_honest_shim_may_go_on_for_ever() -> None:
    async with accepting() as made:
        stream = await made.connected()
        room, sent, heard = WINDOW, 0, 0
        while sent < 20 * WINDOW:
            assert room > 0
            count = min(room, 50_000)
            made.say(Kind.DATA, b"x" * count)
            sent, room = sent + count, room - count
            heard += len(await stream.read())
            room += sum(COUNT.unpack(f.payload)[0] for f in made.told() if f.kind is Kind.CREDIT)
            made.shim.requests.clear()
        assert heard == sent


async def test_what_has_not_been_read_is_not_credited() -> None:
    async with accepting() as made:
        stream = await made.connected()
        made.say(Kind.DATA, b"x" * MAX_PAYLOAD)
        await made.settled()
        assert made.told() == []
        await stream.read()
        made.say(Kind.DATA, b"x")
        await stream.read()
        assert made.told() == [Frame(Kind.CREDIT, COUNT.pack(MAX_PAYLOAD), FIRST)]


async def test_we_send_a_window_and_then_wait_for_credit() -> None:
    async with accepting() as made:
        stream = await made.connected()
        writing = asyncio.create_task(stream.write(b"x" * (WINDOW + 3)))
        await made.settled()
        assert sum(len(frame.payload) for frame in made.told()) == WINDOW
        assert not writing.done()
        for _ in range(3):
            made.say(Kind.CREDIT, COUNT.pack(1))
        await asyncio.wait_for(writing, 20)
        assert sum(len(frame.payload) for frame in made.told()) == WINDOW + 3
        assert {frame.kind for frame in made.told()} == {Kind.DATA}
        assert max(len(frame.payload) for frame in made.told()) <= MAX_PAYLOAD


@pytest.mark.parametrize(
    "payload", [COUNT.pack(0), COUNT.pack(6), COUNT.pack(2**32 - 1), b"", b"\0\0\0\0\1"]
)
async def test_credit_for_what_was_never_sent(payload: bytes) -> None:
    async with accepting() as made:
        stream = await made.connected()
        await stream.write(b"12345")
        made.say(Kind.CREDIT, payload)
        assert "credit" in await made.broken()


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        ([Kind.END, Kind.DATA], "after its end"),
        ([Kind.END, Kind.END], "after its end"),
        ([Kind.CLOSE, Kind.DATA], "of a closed connection"),
        ([Kind.CLOSE, Kind.CLOSE], "of a closed connection"),
        ([Kind.CLOSE, Kind.CREDIT], "of a closed connection"),
        ([Kind.DIALED], "a DIALED frame of a connection"),
    ],
)
async def test_what_cannot_come_now(kinds: list[Kind], says: str) -> None:
    async with accepting() as made:
        await made.connected()
        for kind in kinds:
            made.say(kind, b"x" if kind is Kind.DATA else b"")
        assert says in await made.broken()


async def test_data_without_a_byte_would_fill_no_window() -> None:
    async with accepting() as made:
        await made.connected()
        made.say(Kind.DATA)
        assert "0 bytes" in await made.broken()


async def test_a_stream_that_nobody_reads_holds_up_no_other_and_no_control_frame() -> None:
    async with accepting() as made:
        await made.connected()
        for _ in range(WINDOW // 1000):
            made.say(Kind.DATA, b"x" * 1000)
        other = await made.connected(FIRST + 1)
        for _ in range(1000):
            made.say(Kind.DATA, b"y", FIRST + 1)
        made.say(Kind.END, stream=FIRST + 1)
        await made.settled()
        assert (await other.read(), await other.read()) == (b"y" * 1000, b"")


async def test_a_stream_that_the_agent_does_not_read_holds_up_no_other_writer() -> None:
    async with accepting() as made:
        stuck = await made.connected()
        other = await made.connected(FIRST + 1)
        writing = asyncio.create_task(stuck.write(b"x" * 2 * WINDOW))
        await asyncio.wait_for(other.write(b"y" * WINDOW), 20)
        await made.link.send(Kind.STOP)
        assert not writing.done()
        made.say(Kind.CLOSE)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(writing, 20)


# -- ends ---------------------------------------------------------------------------------------


async def test_a_side_that_has_ended_can_still_be_written_to() -> None:
    async with accepting() as made:
        stream = await made.connected()
        made.say(Kind.DATA, b"question")
        made.say(Kind.END)
        await made.settled()
        assert (await stream.read(), await stream.read()) == (b"question", b"")
        await stream.write(b"answer")
        await stream.close()
        assert made.told() == [Frame(Kind.DATA, b"answer", FIRST), Frame(Kind.CLOSE, b"", FIRST)]


async def test_our_side_alone_can_end() -> None:
    async with accepting() as made:
        stream = await made.connected()
        await stream.write(b"x")
        await stream.end()
        await stream.end()
        with pytest.raises(ConnectionError):
            await stream.write(b"y")
        made.say(Kind.DATA, b"still there")
        assert await stream.read() == b"still there"
        assert [frame.kind for frame in made.told()] == [Kind.DATA, Kind.END]


async def test_what_arrived_before_a_reset_can_still_be_read() -> None:
    async with accepting() as made:
        stream = await made.connected()
        made.say(Kind.DATA, b"last words")
        made.say(Kind.CLOSE)
        await made.settled()
        assert (await stream.read(), await stream.read()) == (b"last words", b"")
        with pytest.raises(ConnectionError):
            await stream.write(b"x")


async def test_closing_ends_those_who_wait_and_is_told_once() -> None:
    async with accepting() as made:
        stream = await made.connected()
        reading = asyncio.create_task(stream.read())
        writing = asyncio.create_task(stream.write(b"x" * 2 * WINDOW))
        await made.settled()
        for _ in range(2):
            await stream.close()
        assert await asyncio.wait_for(reading, 20) == b""
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(writing, 20)
        assert [f.kind for f in made.told() if f.kind is not Kind.DATA] == [Kind.CLOSE]


async def test_what_arrives_after_our_close_is_dropped() -> None:
    async with accepting() as made:
        stream = await made.connected()
        await stream.close()
        for kind in (Kind.DATA, Kind.CREDIT, Kind.END, Kind.CLOSE):
            made.say(kind, b"x" * 1000)
        await made.settled()
        assert await stream.read() == b""


async def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    async with accepting() as made:
        stream = await made.connected()
        reading = asyncio.create_task(stream.read())
        await made.settled()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        made.say(Kind.DATA, b"x")
        assert await stream.read() == b"x"


# -- dialed -------------------------------------------------------------------------------------


async def test_a_dialed_connection_has_the_same_window() -> None:
    async with accepting() as made:
        stream = await made.link.dial(16, 8000)
        made.say(Kind.DIALED, b"{}", 16)
        assert await stream.dialed() == b"{}"
        made.say(Kind.DATA, b"x" * MAX_PAYLOAD, 16)
        made.say(Kind.DATA, b"x" * MAX_PAYLOAD, 16)
        assert len(await stream.read()) > 0
        made.say(Kind.DATA, b"x" * MAX_PAYLOAD, 16)
        assert "bytes where" in await made.broken()


@pytest.mark.parametrize("kinds", [[Kind.DATA], [Kind.CLOSE], [Kind.DIALED, Kind.DIALED]])
async def test_a_dialed_connection_is_answered_first_and_once(kinds: list[Kind]) -> None:
    async with accepting() as made:
        await made.link.dial(16, 8000)
        for kind in kinds:
            made.say(kind, b"{}", 16)
        assert "frame" in await made.broken()


async def test_who_waits_for_a_dialed_connection_hears_of_the_end() -> None:
    async with accepting() as made:
        stream = await made.link.dial(16, 8000)
        made.shim.say(None)
        assert await asyncio.wait_for(stream.dialed(), 20) == b""


async def test_an_answer_to_who_has_just_given_up_dialing_breaks_nothing() -> None:
    async with accepting() as talk:
        stream = await talk.link.dial(16, 8000)
        waiting = asyncio.create_task(stream.dialed())
        await asyncio.sleep(0)
        waiting.cancel()
        talk.say(Kind.DIALED, b"{}", 16)
        await talk.settled()
        with pytest.raises(asyncio.CancelledError):
            await waiting
