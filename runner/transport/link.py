"""Frames over a byte channel: one reader sorts what arrives, everybody else waits for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress

from runner.errors import ProtocolViolation
from runner.ports import ByteChannel
from runner.transport.frames import Frame, FrameDecoder, Kind, encode

QUEUED_FRAMES = 32
"""Frames held for a slow consumer; beyond it the reader waits, and so does the shim."""


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
        self._streams: dict[int, asyncio.Queue[bytes]] = {}
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
        """The next control frame (all but DATA, CLOSE and DIALED)."""
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

    def open_stream(self, stream: int) -> asyncio.Queue[bytes]:
        """A queue of what arrives on `stream`; b"" at its end."""
        self._streams[stream] = asyncio.Queue(QUEUED_FRAMES)
        return self._streams[stream]

    def drop_stream(self, stream: int) -> None:
        """Forgets a stream; what still arrives on it is dropped."""
        queue = self._streams.pop(stream, None)
        while queue and not queue.empty():
            queue.get_nowait()  # lets a reader that waits for room go on

    async def _read(self) -> None:
        decoder = FrameDecoder()
        try:
            while data := await self._channel.read():
                for frame in decoder.feed(data):
                    await self._sort(frame)
        except (ProtocolViolation, ConnectionError) as error:
            self._failure = error if isinstance(error, ProtocolViolation) else None
        await self._control.put(None)
        for queue in list(self._streams.values()):
            await queue.put(b"")

    async def _sort(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.DATA | Kind.CLOSE | Kind.DIALED:
                if queue := self._streams.get(frame.stream):
                    await queue.put(frame.payload)
            case _:
                await self._control.put(frame)
