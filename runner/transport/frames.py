"""The shim's frames: length, kind and stream, then the payload (docs/shim-protocol.md).

The other side is `sandbox_images/shim/shim.py`, which can import nothing of ours; a test compares
the numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from runner.errors import ProtocolViolation

PROTOCOL = 2
HEADER = struct.Struct("!IBI")
MAX_PAYLOAD = 65_536
"""Bytes of payload that a shim may send in one frame."""
COUNT = struct.Struct("!I")
"""The payload of CREDIT."""
WINDOW = 131_072
"""Bytes of one connection, each way, that its reader has not taken yet."""
ACCEPTED_NUMBERS = 0x8000_0000
"""Streams from here on are connections that the agent made; those below were dialed."""


class Kind(IntEnum):
    """What a frame is for; below 20 from the shim, from 32 to it, between both ways."""

    HELLO = 1
    STARTED = 2
    OUTPUT = 3
    EXITED = 4
    STOPPED = 5
    CGROUP = 6
    FILE = 7
    FILE_DATA = 8
    FILE_END = 9
    COLLECTED = 10
    FAILED = 11
    DIALED = 12
    ACCEPTED = 13
    DATA = 20
    CLOSE = 21
    END = 22
    CREDIT = 23
    START = 32
    STOP = 33
    COLLECT = 34
    READ_CGROUP = 35
    DIAL = 36


FROM_SHIM = frozenset(kind for kind in Kind if kind < Kind.START)


@dataclass(frozen=True, slots=True)
class Frame:
    """One complete frame."""

    kind: Kind
    payload: bytes = b""
    stream: int = 0


def encode(frame: Frame) -> bytes:
    """The frame's bytes."""
    return HEADER.pack(len(frame.payload), frame.kind, frame.stream) + frame.payload


class FrameDecoder:
    """Hostile bytes in, frames out; holds at most one frame's bytes and one read's."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames completed by `data`.

        Raises ProtocolViolation at the first that no shim sends; what follows is not read.
        """
        self._received += data
        while frame := self._take():
            yield frame

    def _take(self) -> Frame | None:
        if len(self._received) < HEADER.size:
            return None
        length, number, stream = HEADER.unpack_from(self._received)
        kind = _kind_from_shim(number)
        if length > MAX_PAYLOAD:
            raise ProtocolViolation(f"a {kind.name} frame of {length} bytes")
        end = HEADER.size + length
        if len(self._received) < end:
            return None
        payload = bytes(self._received[HEADER.size : end])
        del self._received[:end]
        return Frame(kind, payload, stream)


def _kind_from_shim(number: int) -> Kind:
    try:
        kind = Kind(number)
    except ValueError:
        raise ProtocolViolation(f"a frame of unknown kind {number}") from None
    if kind not in FROM_SHIM:
        raise ProtocolViolation(f"a {kind.name} frame, which only the host sends")
    return kind
