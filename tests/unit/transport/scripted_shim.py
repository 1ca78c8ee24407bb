"""A shim that says what a test wants in answer to each request, however hostile."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterable
from typing import Any

from runner.domain import FunctionInterface, HttpInterface, Image, Limits, StdioInterface
from runner.transport.frames import HEADER, Frame, Kind, encode
from runner.transport.launch import AgentUser

USER = AgentUser(uid=10_001, gid=10_001)
AGENT = (
    "Uid: 10001 10001 10001 10001\nGid: 10001 10001 10001 10001\nGroups:\nCapEff: 0000000000000000"
)
SHIM = "Uid: 0 0 0 0\nCapEff: 00000000000000e0\nNoNewPrivs: 1\nSeccomp: 2"
LIMITS = Limits(time_seconds=5, output_bytes=100, log_bytes=200)
STDIO = Image(image_id="sha256:0", reference="x", interface=StdioInterface(command=("agent",)))
FUNCTION = STDIO.model_copy(update={"interface": FunctionInterface(module="m", function="f")})
SERVER = STDIO.model_copy(update={"interface": HttpInterface(command=("serve",), port=8000)})


def frame(kind: Kind, value: object = None, stream: int = 0) -> bytes:
    payload = value if isinstance(value, bytes) else b"" if value is None else dumped(value)
    return encode(Frame(kind, payload, stream))


def dumped(value: object) -> bytes:
    return json.dumps(value).encode()


def hello(**changes: Any) -> bytes:
    value = {
        "protocol": 2,
        "python": "3.11.2",
        "pid": 1,
        "identity": SHIM,
        "mounts": [["/", "overlay", "ro,relatime"], ["/opt/agenttrace", "ext4", "ro"]],
        "interfaces": ["lo"],
    }
    return frame(Kind.HELLO, value | changes)


STARTED = frame(Kind.STARTED, {"pid": 7, "identity": AGENT})
STOPPED = frame(Kind.STOPPED, {"remaining": 0})
COLLECTED = frame(Kind.COLLECTED, {"truncated": ""})


def exited(code: int | None = 0, signal: int | None = None, **totals: int) -> bytes:
    named = {"stdout": "1", "stderr": "2", "answer": "3"}
    counts = {named[name]: count for name, count in totals.items()}
    value = {"exit_code": code, "signal": signal, "bytes": counts, "full": []}
    return frame(Kind.EXITED, value)


class ScriptedShim:
    """Implements ports.ByteChannel. `answers`: to the first request of a kind, the second, ...

    None in an answer ends the container there. What is not answered leaves the host waiting.
    """

    def __init__(
        self, opening: bytes, answers: dict[Kind, Iterable[bytes | list[bytes | None] | None]]
    ) -> None:
        self.requests: list[Frame] = []
        self.ended = False
        self._answers = {kind: deque(given) for kind, given in answers.items()}
        self._received = bytearray()
        self._leaving: asyncio.Queue[bytes] = asyncio.Queue()
        if opening:
            self._leaving.put_nowait(opening)

    async def read(self) -> bytes:
        return await self._leaving.get()

    async def write(self, data: bytes) -> None:
        if self.ended:
            raise ConnectionResetError
        self._received += data
        while len(self._received) >= HEADER.size:
            length, kind, stream = HEADER.unpack_from(self._received)
            end = HEADER.size + length
            if len(self._received) < end:
                return
            request = Frame(Kind(kind), bytes(self._received[HEADER.size : end]), stream)
            del self._received[:end]
            self.requests.append(request)
            self._answer(request)

    def _answer(self, request: Frame) -> None:
        waiting = self._answers.get(request.kind)
        if not waiting:
            return
        answer = waiting.popleft()
        for part in answer if isinstance(answer, list) else [answer]:
            self.say(part)

    def say(self, data: bytes | None) -> None:
        """Unasked; None ends the container."""
        self.ended = self.ended or data is None
        self._leaving.put_nowait(data or b"")

    def asked(self, kind: Kind) -> list[Any]:
        """The requests of a kind, parsed."""
        return [json.loads(r.payload or b"null") for r in self.requests if r.kind is kind]
