"""From hello to goodbye against a shim that says what each test wants."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from runner.domain import Ending, EndingKind, Image, Limits, Prompt, Reply
from runner.errors import EngineFailed, LimitNotApplied
from runner.evaluation.stages import Stopwatch
from runner.testing import FakeSandbox
from runner.transport import ShimTransport, conversation
from runner.transport.frames import HEADER, Kind
from runner.transport.link import QUEUED_FRAMES
from tests.unit.transport.scripted_shim import (
    COLLECTED,
    FUNCTION,
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

Answers = dict[Kind, Iterable[Any]]
PROMPT = Prompt(task_id="t", text="what?")
FORGED = b"\xff" * HEADER.size


async def asked(
    shim: ScriptedShim, image: Image = STDIO, limits: Limits = LIMITS, directory: Path | None = None
) -> tuple[Reply, bool, tuple[Any, ...]]:
    async with FakeSandbox().session(image, limits, Stopwatch()) as session:
        session.channel = shim  # type: ignore[assignment]
        async with ShimTransport().open(session, image, limits) as talk:
            await talk.ask(PROMPT, {"seed": 1})
            stopped = await talk.stop()
            collected = await talk.collect(directory) if directory else ()
            return talk.reply(), stopped, collected


def shim(start: Any, **more: Any) -> ScriptedShim:
    answers: Answers = {Kind.START: [start], Kind.STOP: [STOPPED], Kind.COLLECT: [COLLECTED]}
    return ScriptedShim(hello(), answers | {Kind[name]: value for name, value in more.items()})


# -- hello --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opening", "error", "says"),
    [
        (hello(protocol=1), LimitNotApplied, "protocol 1"),
        (hello(interfaces=["eth0", "lo"]), LimitNotApplied, "kernel_loopback_only"),
        (hello(mounts=[["/", "overlay", "rw"]]), LimitNotApplied, "kernel_root_read_only"),
        (hello(mounts=[["/", "overlay", "ro"]]), LimitNotApplied, "kernel_shim_read_only"),
        (
            hello(identity="NoNewPrivs: 0\nSeccomp: 0\nCapEff: 3fffffffff"),
            LimitNotApplied,
            "kernel_no_new_privileges, kernel_seccomp_filter, kernel_shim_capabilities",
        ),
        (hello(identity="CapEff: rubbish"), LimitNotApplied, "kernel_shim_capabilities"),
        (FORGED, EngineFailed, "unknown kind 255"),
        (frame(Kind.HELLO, b"[]"), EngineFailed, "malformed Hello"),
    ],
)
async def test_a_container_that_is_not_as_promised_is_never_used(
    opening: bytes, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        await asked(ScriptedShim(opening, {}))


async def test_a_shim_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "HELLO_SECONDS", 0.01)
    with pytest.raises(EngineFailed, match="no hello in time"):
        await asked(ScriptedShim(b"", {}))


async def test_a_container_that_ends_before_its_hello() -> None:
    silent = ScriptedShim(b"", {})
    silent.say(None)
    with pytest.raises(EngineFailed, match="the container has ended"):
        await asked(silent)


# -- a process ----------------------------------------------------------------------------------


async def test_what_a_process_says_is_its_answer() -> None:
    said = [STARTED, frame(Kind.OUTPUT, b"42", 1), frame(Kind.OUTPUT, b"hm", 2)]
    script = shim([*said, exited(stdout=2, stderr=2)])
    reply, stopped, _ = await asked(script)
    assert (reply.ending, reply.output, reply.stderr, stopped) == (
        Ending(kind=EndingKind.ANSWERED, exit_code=0),
        "42",
        b"hm",
        True,
    )
    (request,) = script.asked(Kind.START)
    assert request["argv"] == ["agent"]
    assert request["stdin"] == '{"prompt": "what?", "config": {"seed": 1}}'
    assert (request["uid"], request["gid"]) == (10_001, 10_001)


async def test_a_functions_answer_is_not_what_it_prints() -> None:
    said = [frame(Kind.OUTPUT, b"log", 1), frame(Kind.OUTPUT, b"answer", 3)]
    reply, _, _ = await asked(shim([STARTED, *said, exited(answer=6)]), FUNCTION)
    assert (reply.output, reply.stdout) == ("answer", b"log")


@pytest.mark.parametrize(
    ("start", "kind", "says"),
    [
        ([STARTED, exited(3)], EndingKind.CRASHED, "status 3"),
        ([STARTED, exited(None, 9)], EndingKind.CRASHED, "SIGKILL"),
        ([STARTED, exited(None, 99)], EndingKind.CRASHED, "signal 99"),
        ([frame(Kind.FAILED, {"error": "agent: \x1b[2J"})], EndingKind.CRASHED, r"\\x1b\[2J"),
        ([STARTED, None], EndingKind.SANDBOX_ENDED, "ended"),
        ([None], EndingKind.SANDBOX_ENDED, "ended"),
        ([STARTED, FORGED], EndingKind.PROTOCOL_BROKEN, "unknown kind"),
        ([frame(Kind.STARTED, b"{}")], EndingKind.PROTOCOL_BROKEN, "malformed Started"),
        ([STARTED, frame(Kind.EXITED, b"{}")], EndingKind.PROTOCOL_BROKEN, "malformed Exited"),
        ([STARTED, frame(Kind.START)], EndingKind.PROTOCOL_BROKEN, "only the host"),
        ([STARTED, frame(Kind.OUTPUT, b"\xff", 1), exited(stdout=1)], "invalid_output", "UTF-8"),
    ],
)
async def test_every_ending_is_a_value(start: list[bytes | None], kind: str, says: str) -> None:
    reply, stopped, _ = await asked(shim(start))
    assert reply.ending.kind == kind
    assert re.search(says, reply.ending.detail)
    link_is_broken = FORGED in start or frame(Kind.START) in start
    assert stopped is not link_is_broken


async def test_no_answer_in_time() -> None:
    limits = LIMITS.model_copy(update={"time_seconds": 0.05})
    said = [STARTED, frame(Kind.OUTPUT, b"so far", 1)]
    stopped = frame(Kind.STOPPED, {"remaining": 0, "bytes": {"1": 90}, "full": ["/tmp"]})
    reply, _, _ = await asked(shim(said, STOP=[stopped]), limits=limits)
    assert reply.ending == Ending(
        kind=EndingKind.TIMED_OUT, detail="no answer within 0.05 s", exit_code=None
    )
    assert (reply.stdout, reply.stdout_bytes, reply.full_mounts) == (b"so far", 90, ("/tmp",))
    assert reply.output == ""
    assert reply.wall_seconds >= 0.05


async def test_an_agent_with_privileges_is_our_failure() -> None:
    started = frame(Kind.STARTED, {"pid": 7, "identity": "Uid: 0 0 0 0\nCapEff: 0"})
    with pytest.raises(LimitNotApplied, match="0 0 0 0"):
        await asked(shim([started]))


async def test_a_flood_is_kept_only_up_to_the_caps() -> None:
    flood = [frame(Kind.OUTPUT, b"x" * 1000, stream) for stream in (1, 2, 3, 4) for _ in range(50)]
    reply, _, _ = await asked(shim([STARTED, *flood, exited(stdout=10**6, stderr=50_000)]))
    assert (len(reply.stdout), len(reply.stderr)) == (200, 200)
    assert (reply.stdout_bytes, reply.output_bytes, reply.output_truncated) == (10**6, 10**6, True)
    assert len(reply.output.encode()) <= 100
    assert reply.output.endswith("[output truncated by the runner]")


async def test_the_shims_totals_cannot_lie_below_what_arrived() -> None:
    said = [STARTED, frame(Kind.OUTPUT, b"x" * 50, 1), exited(stdout=1)]
    reply, _, _ = await asked(shim(said))
    assert (reply.output_bytes, reply.output_truncated) == (50, False)


@pytest.mark.parametrize("key", ["9" * 5000, "\u0661", "-1", "1.0", " 1", "x"])
async def test_totals_of_streams_that_there_are_not(key: str) -> None:
    value = {"exit_code": 0, "signal": None, "bytes": {key: 7}, "full": []}
    reply, _, _ = await asked(shim([STARTED, frame(Kind.EXITED, value)]))
    assert (reply.ending.kind, reply.stdout_bytes) == (EndingKind.ANSWERED, 0)


@pytest.mark.parametrize(
    ("answer", "dead"),
    [(STOPPED, True), (frame(Kind.STOPPED, {"remaining": 2}), False), (FORGED, False)],
)
async def test_death_is_what_the_shim_confirms(answer: bytes, dead: bool) -> None:
    _, stopped, _ = await asked(shim([STARTED, exited()], STOP=[answer]))
    assert stopped is dead


async def test_a_shim_that_does_not_stop_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "STOP_SECONDS", 0.01)
    _, stopped, _ = await asked(shim([STARTED, exited()], STOP=[[]]))
    assert not stopped


class Congested(ScriptedShim):
    """Reads no request before the host has taken all that it says, as when its stdout is full."""

    def __init__(self, opening: bytes, answers: Answers) -> None:
        super().__init__(opening, answers)
        self.left = 10 * QUEUED_FRAMES
        self.rid_of_it = asyncio.Event()

    async def read(self) -> bytes:
        if not self._leaving.empty() or not self.asked(Kind.START):
            return await super().read()
        self.left -= 1
        if self.left == 0:
            self.rid_of_it.set()
        return frame(Kind.OUTPUT, b"x", 1) if self.left > 0 else await super().read()

    async def write(self, data: bytes) -> None:
        if self.asked(Kind.START):
            await self.rid_of_it.wait()
        await super().write(data)


@pytest.mark.parametrize("needs_files", [False, True])
async def test_output_that_nobody_waits_for_does_not_keep_a_request_from_the_shim(
    needs_files: bool,
) -> None:
    files = [frame(Kind.CGROUP, {"memory.peak": "7"})]
    script = Congested(
        hello(),
        {Kind.START: [[STARTED, exited()]], Kind.STOP: [STOPPED], Kind.READ_CGROUP: files},
    )
    async with FakeSandbox().session(STDIO, LIMITS, Stopwatch()) as session:
        session.channel = script  # type: ignore[assignment]
        async with ShimTransport().open(session, STDIO, LIMITS) as talk:
            await talk.ask(PROMPT, {})
            if needs_files:
                assert await talk.read_cgroup() == {"memory.peak": "7"}
            assert await talk.stop()


async def test_no_cgroup_files_are_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "CGROUP_SECONDS", 0.01)
    for answer in ([], [frame(Kind.CGROUP, b"[]")], [frame(Kind.CGROUP, {"a": 1})], [FORGED]):
        script = shim([], READ_CGROUP=[answer])
        async with FakeSandbox().session(STDIO, LIMITS, Stopwatch()) as session:
            session.channel = script  # type: ignore[assignment]
            async with ShimTransport().open(session, STDIO, LIMITS) as talk:
                assert await talk.read_cgroup() == {}


async def test_cgroup_files_come_by_name() -> None:
    script = shim([], READ_CGROUP=[frame(Kind.CGROUP, {"memory.peak": "7\n"})])
    async with FakeSandbox().session(STDIO, LIMITS, Stopwatch()) as session:
        session.channel = script  # type: ignore[assignment]
        async with ShimTransport().open(session, STDIO, LIMITS) as talk:
            assert await talk.read_cgroup() == {"memory.peak": "7\n"}


# -- a server -----------------------------------------------------------------------------------


def http(status: int, body: bytes, *, length: int | None = None) -> bytes:
    head = (
        f"HTTP/1.1 {status} X\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
    )
    return head.encode() + body


class ScriptedServer(ScriptedShim):
    """Answers DIAL with `dialed` in turn and the first DATA with `response`, on its own stream."""

    def __init__(self, dialed: list[str], response: list[bytes | None], start: Any = None) -> None:
        super().__init__(
            hello(),
            {Kind.START: [start or STARTED], Kind.STOP: [STOPPED], Kind.COLLECT: [COLLECTED]},
        )
        self._dialed = dialed
        self._response: list[bytes | None] | None = response
        self.body = bytearray()
        self.heard = asyncio.Event()

    def _answer(self, request: Any) -> None:
        super()._answer(request)
        if request.kind is Kind.DIAL:
            error = self._dialed.pop(0) if self._dialed else ""
            self.say(frame(Kind.DIALED, {"error": error} if error else {}, request.stream))
        if request.kind is Kind.DATA:
            self.body += request.payload
            self.heard.set()
        if request.kind is Kind.DATA and self._response is not None and b'"config"' in self.body:
            for part in self._response:
                closing = frame(Kind.CLOSE, stream=request.stream)
                self.say(closing if part is None else frame(Kind.DATA, part, request.stream))
            self._response = None


async def test_a_server_is_asked_once_it_listens() -> None:
    server = ScriptedServer(
        ["Connection refused"] * 2, [http(200, b'{"output": "42", "usage": {"tokens": 3}}')]
    )
    reply, _, _ = await asked(server, SERVER)
    assert (reply.ending.kind, reply.output) == (EndingKind.ANSWERED, "42")
    assert reply.claims == {"tokens": 3}
    assert len(server.asked(Kind.DIAL)) == 3
    assert server.body.startswith(b"POST /invoke HTTP/1.1\r\n")
    assert server.body.endswith(b'{"prompt": "what?", "config": {"seed": 1}}')


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        ([http(500, b"oops")], EndingKind.CRASHED),
        ([http(200, b"not JSON")], EndingKind.INVALID_OUTPUT),
        ([http(200, b"[" * 8000)], EndingKind.INVALID_OUTPUT),
        ([http(200, b"9" * 4500)], EndingKind.INVALID_OUTPUT),
        ([http(200, b'{"output": 42}')], EndingKind.INVALID_OUTPUT),
        ([http(200, b'{"output": "\\ud800"}')], EndingKind.INVALID_OUTPUT),
        ([http(200, b"{" * 9000)], EndingKind.OUTPUT_EXCEEDED),
        ([http(200, b'{"output"', length=50), None], EndingKind.INVALID_OUTPUT),
        ([b"\x00\xff rubbish\r\n\r\n"], EndingKind.INVALID_OUTPUT),
        ([b"HTTP/1.1 200 X\r\nA: " + b"x" * 60_000, b"x" * 60_000], EndingKind.INVALID_OUTPUT),
        ([None], EndingKind.INVALID_OUTPUT),
    ],
)
async def test_every_response_is_an_ending(response: list[bytes | None], kind: EndingKind) -> None:
    limits = LIMITS.model_copy(update={"output_bytes": 700})
    reply, stopped, _ = await asked(ScriptedServer([], response), SERVER, limits)
    assert reply.ending.kind is kind
    assert stopped


async def test_claims_are_kept_only_as_plain_numbers() -> None:
    usage = (
        b'{"usage": {"\\ud800\x7f": 1, "nan": NaN, "big": 1e300, "text": "x",'
        b' "on": true, "n": 2.5}, "output": ""}'
    )
    reply, _, _ = await asked(ScriptedServer([], [http(200, usage)]), SERVER)
    assert reply.claims == {"\\ud800\\x7f": 1, "on": True, "n": 2.5}


async def test_a_server_that_dies_crashed() -> None:
    script = ScriptedServer(["Connection refused"], [], start=[STARTED, exited(3)])
    reply, _, _ = await asked(script, SERVER)
    assert (reply.ending.kind, reply.ending.exit_code) == (EndingKind.CRASHED, 3)


async def test_a_server_that_dies_while_it_answers_crashed() -> None:
    script = ScriptedServer([], [None])
    asking = asyncio.create_task(asked(script, SERVER))
    await asyncio.wait_for(script.heard.wait(), 20)
    script.say(exited(None, 9))
    reply, _, _ = await asking
    assert (reply.ending.kind, reply.ending.signal) == (EndingKind.CRASHED, 9)


async def test_a_server_that_never_listens_is_out_of_time() -> None:
    limits = LIMITS.model_copy(update={"time_seconds": 0.1})
    reply, stopped, _ = await asked(ScriptedServer(["refused"] * 1000, []), SERVER, limits)
    assert (reply.ending.kind, stopped) == (EndingKind.TIMED_OUT, True)


async def test_a_server_whose_container_ends() -> None:
    script = ScriptedServer([], [])
    asking = asyncio.create_task(asked(script, SERVER))
    await asyncio.wait_for(script.heard.wait(), 20)
    script.say(None)
    reply, _, _ = await asking
    assert reply.ending.kind is EndingKind.SANDBOX_ENDED


# -- artifacts ----------------------------------------------------------------------------------


async def test_artifacts_arrive_with_their_digests(tmp_path: Path) -> None:
    files = [
        frame(Kind.FILE, {"path": "a/b.txt", "size": 3}),
        frame(Kind.FILE_DATA, b"hi\n"),
        frame(Kind.FILE_END),
        frame(Kind.FILE, {"path": "link", "size": 0, "skipped": "a symbolic link"}),
        COLLECTED,
    ]
    _, _, artifacts = await asked(shim([STARTED, exited()], COLLECT=[files]), directory=tmp_path)
    assert (tmp_path / "a/b.txt").read_bytes() == b"hi\n"
    assert [(a.path, a.size_bytes, a.sha256[:8], a.skipped) for a in artifacts] == [
        ("a/b.txt", 3, "98ea6e4f", ""),
        ("link", 0, "", "a symbolic link"),
    ]


@pytest.mark.parametrize(
    "files",
    [
        [frame(Kind.FILE, {"path": "a", "size": 3}), frame(Kind.FILE_DATA, b"half"), FORGED],
        [frame(Kind.FILE, {"path": "a", "size": 3}), frame(Kind.FILE_DATA, b"half"), None],
        [
            frame(Kind.FILE, {"path": "a", "size": 1}),
            *[frame(Kind.FILE_DATA, b"x" * 50)] * 3,
            frame(Kind.FILE_END),
        ],
    ],
    ids=["forged", "ended", "more than asked for"],
)
async def test_half_a_file_is_not_kept(files: list[bytes | None], tmp_path: Path) -> None:
    limits = LIMITS.model_copy(update={"artifact_bytes": 100})
    script = shim([STARTED, exited()], COLLECT=[files])
    _, _, artifacts = await asked(script, limits=limits, directory=tmp_path)
    assert [(a.path, a.skipped.partition(":")[0]) for a in artifacts] == [(".", "incomplete")]
    assert not any(os.scandir(tmp_path))


async def test_a_collection_that_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.transport.artifacts.COLLECT_SECONDS", 0.01)
    script = shim([STARTED, exited()], COLLECT=[[]])
    _, _, artifacts = await asked(script, directory=tmp_path)
    assert artifacts[0].skipped == "incomplete: took too long"
