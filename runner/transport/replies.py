"""From the bytes that an agent left to a Reply: what is an answer, what is only an ending."""

from __future__ import annotations

import codecs
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field

from runner.domain import Ending, EndingKind, Reply
from runner.transport.messages import Exited, Usage

TRUNCATION_MARKER = "\n[output truncated by the runner]"
STDOUT, STDERR, ANSWER = 1, 2, 3


@dataclass
class Heard:
    """What has arrived from the agent so far; the shim caps it, `caps` makes sure."""

    caps: dict[int, int]
    parts: dict[int, bytearray] = field(
        default_factory=lambda: {s: bytearray() for s in (STDOUT, STDERR, ANSWER)}
    )
    totals: dict[int, int] = field(default_factory=dict)
    full_mounts: tuple[str, ...] = ()

    def add(self, stream: int, data: bytes) -> None:
        """Keeps `data`, as far as the cap of its stream allows."""
        if stream in self.parts:
            room = self.caps[stream] - len(self.parts[stream])
            self.parts[stream] += data[: max(0, room)]

    def account(self, usage: Usage) -> None:
        """Takes the shim's totals."""
        self.totals = {stream: usage.totals.get(str(stream), 0) for stream in self.parts}
        self.full_mounts = usage.full

    def total(self, stream: int) -> int:
        """How much the agent wrote, kept or not."""
        return max(self.totals.get(stream, 0), len(self.parts[stream]))


def exited(exit_: Exited) -> Ending:
    """How a process ended, as far as its exit status tells."""
    if exit_.signal is not None:
        name = signal_name(exit_.signal)
        return Ending(
            kind=EndingKind.CRASHED, detail=f"the agent was killed by {name}", signal=exit_.signal
        )
    if exit_.exit_code:
        detail = f"the agent exited with status {exit_.exit_code}"
        return Ending(kind=EndingKind.CRASHED, detail=detail, exit_code=exit_.exit_code)
    return Ending(kind=EndingKind.ANSWERED, exit_code=0)


def signal_name(number: int) -> str:
    """SIGKILL for 9, and so on."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def server_exited(exit_: Exited) -> Ending:
    """How a server ended that should have gone on to answer."""
    ending = exited(exit_)
    detail = ending.detail or "the agent's server exited before it answered"
    return ending.model_copy(update={"kind": EndingKind.CRASHED, "detail": detail})


@dataclass(frozen=True)
class Answer:
    """How the exchange ended, and the answer's bytes as far as they were kept."""

    ending: Ending
    data: bytes = b""
    length: int = 0
    """How long the answer was in all, in bytes."""
    claims: Mapping[str, int | float | str] = field(default_factory=dict)


def make_reply(answer: Answer, heard: Heard, cap: int, wall_seconds: float) -> Reply:
    """The reply, with the answer cut at `cap` bytes."""
    ending, truncated = answer.ending, answer.length > cap
    text, valid = decode(answer.data[:cap], complete=not truncated)
    if not valid and ending.kind is EndingKind.ANSWERED:
        ending = Ending(kind=EndingKind.INVALID_OUTPUT, detail="the answer is not valid UTF-8")
    return Reply(
        ending=ending,
        output=cut(text, cap) if truncated or len(text) > cap else text,
        output_bytes=answer.length,
        output_truncated=truncated,
        stdout=bytes(heard.parts[STDOUT]),
        stderr=bytes(heard.parts[STDERR]),
        stdout_bytes=heard.total(STDOUT),
        stderr_bytes=heard.total(STDERR),
        wall_seconds=wall_seconds,
        full_mounts=heard.full_mounts,
        claims=dict(answer.claims),
    )


def decode(data: bytes, *, complete: bool) -> tuple[str, bool]:
    """The text, and whether it was valid UTF-8; an incomplete last character may be missing."""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(data, final=complete), True
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace"), False


def cut(text: str, cap: int) -> str:
    """`text` with the marker at its end, together at most `cap` bytes of UTF-8."""
    room = max(0, cap - len(TRUNCATION_MARKER.encode()))
    kept = text.encode()[:room] + TRUNCATION_MARKER.encode()
    return kept[:cap].decode("utf-8", "ignore")
