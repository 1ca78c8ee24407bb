"""Frames over a byte channel: one reader sorts what arrives, everybody else waits for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress

from runner.errors import ProtocolViolation
from runner.ports import ByteChannel
from runner.transport.frames import ACCEPTED_NUMBERS, Frame, FrameDecoder, Kind, encode
from runner.transport.stream import DialedStream, Stream

QUEUED_FRAMES = 32
"""Control frames held for a slow consumer; beyond it the reader waits, and so does the shim.
Streams never hold it up: what may arrive on each is bounded by its window."""

Accept = Callable[[Stream], None]


class LinkEnded(Exception):
    """The container ended, so no further frame will come."""


class Link:
    """Sends frames, and sorts those that arrive into control frames and streams.

    After the container has ended, or after bytes that no shim sends, every wait raises
    (LinkEnded, ProtocolViolation). Use `start` and `close`.
    """

    def __init__(self, channel: ByteChannel) -> None:
        self._channel = channel
        self._control: asyncio.Queue[Frame | None] = asyncio.Queue(QUEUED_FRAMES)
        self._streams: dict[int, Stream] = {}
        self._accept: Accept | None = None
        self._most_accepted = 0
        self._sending_data = asyncio.Lock()
        self._failure: Exception | None = None
        self._reader: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to read."""
        self._reader = asyncio.create_task(self._read())

    async def close(self) -> None:
        """Stops reading; the channel itself belongs to the session."""
        if self._reader:
            self._reader.cancel()
            with suppress(asyncio.CancelledError):
                await self._reader

    async def send(self, kind: Kind, payload: bytes = b"", stream: int = 0) -> None:
        """Sends one frame; raises LinkEnded once the container has ended."""
        try:
            await self._channel.write(encode(Frame(kind, payload, stream)))
        except ConnectionError as error:
            raise LinkEnded("the container has ended") from error

    async def send_json(self, kind: Kind, value: Mapping[str, object], stream: int = 0) -> None:
        """Sends a frame with a JSON payload."""
        await self.send(kind, json.dumps(value).encode(), stream)

    async def next(self) -> Frame:
        """The next control frame (all but those of streams)."""
        frame = await self._control.get()
        if frame is None:
            self._control.put_nowait(None)  # for the next one who asks
            raise self._failure or LinkEnded("the container has ended")
        return frame

    async def expect(self, *kinds: Kind) -> Frame:
        """The next control frame of one of `kinds`; others are dropped."""
        while (frame := await self.next()).kind not in kinds:
            pass
        return frame

    # -- streams --------------------------------------------------------------------------------

    async def dial(self, number: int, port: int) -> DialedStream:
        """Asks for a connection to `port` inside the container; raises LinkEnded."""
        stream = DialedStream(number, self)
        self._streams[number] = stream
        try:
            await self.send_json(Kind.DIAL, {"port": port}, number)
        except BaseException:
            stream.abandon()
            raise
        return stream

    def accept(self, most: int, accept: Accept) -> None:
        """From now on `accept` is given each connection that the agent makes.

        More than `most` that we have not closed are no honest shim's.
        """
        self._most_accepted = most
        self._accept = accept

    async def put(self, kind: Kind, payload: bytes, stream: int) -> None:
        """See stream.Wire. Data goes one frame at a time, so that a STOP never waits behind much
        of it, and each stream has its turn.
        """
        if kind is not Kind.DATA:
            await self._channel.write(encode(Frame(kind, payload, stream)))
            return
        async with self._sending_data:
            await self._channel.write(encode(Frame(kind, payload, stream)))

    def forget(self, stream: int) -> None:
        """See stream.Wire."""
        self._streams.pop(stream, None)

    # -- the reader -----------------------------------------------------------------------------

    async def _read(self) -> None:
        decoder = FrameDecoder()
        try:
            while data := await self._channel.read():
                for frame in decoder.feed(data):
                    await self._sort(frame)
        except (ProtocolViolation, ConnectionError) as error:
            self._failure = error if isinstance(error, ProtocolViolation) else None
        for stream in list(self._streams.values()):
            stream.lose()
        await self._control.put(None)

    async def _sort(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.DATA | Kind.CREDIT | Kind.END | Kind.CLOSE | Kind.DIALED:
                if stream := self._streams.get(frame.stream):
                    stream.hear(frame)
            case Kind.ACCEPTED:
                self._accepted(frame.stream)
            case _:
                await self._control.put(frame)

    def _accepted(self, number: int) -> None:
        ours = sum(stream >= ACCEPTED_NUMBERS for stream in self._streams)
        new = number >= ACCEPTED_NUMBERS and number not in self._streams
        if self._accept is None or not new or ours >= self._most_accepted:
            raise ProtocolViolation("a connection that no shim would accept")
        self._streams[number] = Stream(number, self)
        self._accept(self._streams[number])
