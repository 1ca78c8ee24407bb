"""Frames sorted to those who wait for them, and every wait ended when nothing more can come."""

from __future__ import annotations

import asyncio

import pytest

from runner.errors import ProtocolViolation
from runner.testing import ScriptedChannel
from runner.transport.frames import Frame, Kind, encode
from runner.transport.link import QUEUED_FRAMES, Link, LinkEnded
from tests.unit.transport.scripted_shim import ScriptedShim


async def test_the_end_is_told_to_everybody_and_more_than_once() -> None:
    link = Link(ScriptedChannel([encode(Frame(Kind.STOPPED, b"{}"))]))
    arriving = link.open_stream(16)
    link.start()
    assert (await link.next()).kind is Kind.STOPPED
    for _ in range(3):
        with pytest.raises(LinkEnded):
            await link.next()
    assert await arriving.get() == b""
    with pytest.raises(LinkEnded):
        await link.send(Kind.STOP)
    await link.close()


async def test_a_violation_is_told_to_everybody_and_more_than_once() -> None:
    link = Link(ScriptedChannel([b"\xff" * 9]))
    link.start()
    for _ in range(3):
        with pytest.raises(ProtocolViolation):
            await link.expect(Kind.HELLO)
    await link.close()


async def test_frames_go_where_they_are_waited_for() -> None:
    frames = [
        *(Frame(Kind.DATA, b"one", 16), Frame(Kind.DATA, b"nobody's", 99)),
        *(
            Frame(Kind.OUTPUT, b"skipped", 1),
            Frame(Kind.STOPPED, b"{}"),
            Frame(Kind.CLOSE, b"", 16),
        ),
    ]
    link = Link(ScriptedChannel([b"".join(map(encode, frames))]))
    arriving = link.open_stream(16)
    link.start()
    assert (await link.expect(Kind.STOPPED)).payload == b"{}"
    assert [await arriving.get(), await arriving.get()] == [b"one", b""]
    await link.close()


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


async def test_a_dropped_stream_holds_nobody_up() -> None:
    shim = ScriptedShim(b"", {})
    link = Link(shim)
    link.open_stream(16)
    link.start()
    for _ in range(3 * QUEUED_FRAMES):
        shim.say(encode(Frame(Kind.DATA, b"x", 16)))
    shim.say(encode(Frame(Kind.STOPPED)))
    for _ in range(100):
        await asyncio.sleep(0)
    link.drop_stream(16)
    assert (await link.next()).kind is Kind.STOPPED
    await link.close()


async def test_closing_ends_a_reader_that_waits() -> None:
    link = Link(ScriptedShim(b"", {}))
    link.start()
    await link.close()
    await link.close()
