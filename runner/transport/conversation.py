"""One agent, from hello to goodbye: asked over its interface, stopped, and its files collected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from runner.domain import (
    Artifact,
    Ending,
    EndingKind,
    HttpInterface,
    Image,
    Limits,
    Prompt,
    Reply,
)
from runner.errors import EngineFailed, LimitNotApplied, ProtocolViolation
from runner.ports import GatewayAccess, Session, ShimFiles
from runner.transport.artifacts import collect
from runner.transport.cgroup_files import CGROUP_FILES
from runner.transport.deadline import BudgetSpent, Deadline, within
from runner.transport.frames import PROTOCOL, Kind
from runner.transport.hello import check_agent, check_hello
from runner.transport.launch import (
    AgentUser,
    gateway_url,
    most_connections,
    request_text,
    start_request,
)
from runner.transport.link import Link, LinkEnded
from runner.transport.messages import (
    CgroupFiles,
    Exited,
    Failed,
    Hello,
    Started,
    Stopped,
    parse,
)
from runner.transport.relay import Relay
from runner.transport.replies import (
    ANSWER,
    STDERR,
    STDOUT,
    Answer,
    Heard,
    exited,
    make_reply,
    server_exited,
)

HELLO_SECONDS = 30.0
STOP_SECONDS = 5.0
CGROUP_SECONDS = 5.0
EXIT_GRACE_SECONDS = 0.2
"""How long a broken connection waits for the news that the server behind it died."""

T = TypeVar("T")

_CLEAR_OF_EXIT = frozenset({EndingKind.ANSWERED, EndingKind.OUTPUT_EXCEEDED})
"""Endings of an HTTP exchange that the server's death cannot explain."""


class ShimTransport:
    """Implements ports.Transport over the shim's frames, for every interface."""

    @asynccontextmanager
    async def open(
        self,
        session: Session,
        image: Image,
        limits: Limits,
        access: GatewayAccess | None = None,
    ) -> AsyncIterator[ShimConversation]:
        """See ports.Transport."""
        link = Link(session.channel)
        link.start()
        try:
            hello = await _hello(link)
            facts = check_hello(hello, session.facts.tier)
            yield ShimConversation(link, image, limits, _user(session), facts, access)
        finally:
            await link.close()


def _user(session: Session) -> AgentUser:
    return AgentUser(uid=session.facts.agent_uid, gid=session.facts.agent_gid)


async def _hello(link: Link) -> Hello:
    try:
        async with asyncio.timeout(HELLO_SECONDS):
            hello = parse(Hello, (await link.expect(Kind.HELLO)).payload)
    except (LinkEnded, TimeoutError, ProtocolViolation) as error:
        raise EngineFailed(
            f"the shim did not start in its container: {str(error) or 'no hello in time'}",
            remedy="run `agenttrace doctor`",
        ) from error
    if hello.protocol != PROTOCOL:
        raise LimitNotApplied(
            f"the shim speaks protocol {hello.protocol}, this runner {PROTOCOL}",
            remedy="run `agenttrace setup`",
        )
    return hello


class ShimConversation:
    """Implements ports.Conversation."""

    def __init__(  # noqa: PLR0917 - what it talks over, to whom, and what the agent may reach
        self,
        link: Link,
        image: Image,
        limits: Limits,
        user: AgentUser,
        facts: Mapping[str, str | int | float | bool],
        access: GatewayAccess | None = None,
    ) -> None:
        self._link = link
        self._image = image
        self._limits = limits
        self._user = user
        self.facts = facts
        self._access = access
        self._heard = Heard(
            caps={
                STDOUT: max(limits.log_bytes, limits.output_bytes),
                STDERR: limits.log_bytes,
                ANSWER: limits.output_bytes,
            }
        )
        self._answer = Answer(Ending(kind=EndingKind.CRASHED, detail="the agent was not asked"))
        self._deadline = Deadline(limits.time_seconds, access)

    async def ask(self, prompt: Prompt, config: Mapping[str, object]) -> Ending:
        """See ports.Conversation."""
        text = request_text(prompt, {**config, **self._reached()})
        self._deadline.begin()
        try:
            async with self._relayed():
                self._answer = await within(self._deadline, self._converse(text))
        except TimeoutError:
            detail = f"no answer within {self._limits.time_seconds:g} s"
            self._answer = Answer(Ending(kind=EndingKind.TIMED_OUT, detail=detail))
        except BudgetSpent:
            detail = "the gateway refused a call over budget"
            self._answer = Answer(Ending(kind=EndingKind.BUDGET_SPENT, detail=detail))
        except LinkEnded:
            detail = "the container ended under the agent"
            self._answer = Answer(Ending(kind=EndingKind.SANDBOX_ENDED, detail=detail))
        except ProtocolViolation as error:
            self._answer = Answer(Ending(kind=EndingKind.PROTOCOL_BROKEN, detail=str(error)))
        return self._answer.ending

    def _reached(self) -> dict[str, object]:
        return {"gateway_url": gateway_url(self._image)} if self._access else {}

    def _relayed(self) -> AbstractAsyncContextManager[object]:
        if not self._access:
            return nullcontext()
        return Relay(self._link, self._access, most_connections(self._access, self._limits))

    def reply(self) -> Reply:
        """See ports.Conversation."""
        reply = make_reply(
            self._answer, self._heard, self._limits.output_bytes, self._deadline.wall_seconds
        )
        waited = {"provider_wait_seconds": self._deadline.excused_seconds}
        return reply.model_copy(update=waited)

    async def _converse(self, request: str) -> Answer:
        if isinstance(self._image.interface, HttpInterface):
            return await self._ask_server(request, self._image.interface.port)
        return await self._ask_process(request)

    async def _ask_process(self, request: str) -> Answer:
        if not_started := await self._start(request):
            return Answer(not_started)
        ending = exited(await self._until_exit())
        stream = ANSWER if self._image.interface.kind == "function" else STDOUT
        return Answer(ending, bytes(self._heard.parts[stream]), self._heard.total(stream))

    async def _ask_server(self, request: str, port: int) -> Answer:
        if not_started := await self._start(""):
            return Answer(not_started)
        from runner.transport.http import ask_over_http  # noqa: PLC0415 - 40 ms, for servers alone

        watching = asyncio.create_task(self._until_exit())
        asking = asyncio.create_task(ask_over_http(self._link, port, request, self._limits))
        try:
            await asyncio.wait({watching, asking}, return_when=asyncio.FIRST_COMPLETED)
            if asking.done() and (answer := asking.result()).ending.kind in _CLEAR_OF_EXIT:
                return answer
            await asyncio.wait({watching}, timeout=EXIT_GRACE_SECONDS)
            return Answer(server_exited(watching.result())) if watching.done() else answer
        finally:
            await _cancelled(watching, asking)

    async def _start(self, stdin: str) -> Ending | None:
        """Starts the agent; the ending, if it cannot even be started."""
        request = start_request(self._image, self._limits, self._user, stdin, self._access)
        await self._link.send_json(Kind.START, request)
        frame = await self._link.expect(Kind.STARTED, Kind.FAILED)
        if frame.kind is Kind.FAILED:
            reason = parse(Failed, frame.payload).error
            detail = f"the agent's command cannot be started: {reason!a}"
            return Ending(kind=EndingKind.CRASHED, detail=detail, exit_code=127)
        check_agent(parse(Started, frame.payload).identity, self._user)
        return None

    async def _until_exit(self) -> Exited:
        while True:
            frame = await self._link.expect(Kind.OUTPUT, Kind.EXITED)
            if frame.kind is Kind.EXITED:
                message = parse(Exited, frame.payload)
                self._heard.account(message)
                return message
            self._heard.add(frame.stream, frame.payload)

    async def read_cgroup(self) -> ShimFiles:
        """See ports.Conversation."""
        try:
            async with asyncio.timeout(CGROUP_SECONDS):
                names = json.dumps(CGROUP_FILES).encode()
                answer = self._link.expect(Kind.CGROUP)
                frame = await self._answered(Kind.READ_CGROUP, names, answer)
            return parse(CgroupFiles, frame.payload).model_extra or {}
        except (LinkEnded, ProtocolViolation, TimeoutError):
            return {}

    async def stop(self) -> bool:
        """See ports.Conversation."""
        try:
            async with asyncio.timeout(STOP_SECONDS):
                stopped = await self._answered(Kind.STOP, b"", self._until_stopped())
                return stopped.remaining == 0
        except LinkEnded:
            return True  # the shim was PID 1: with it the kernel killed all that were left
        except (ProtocolViolation, TimeoutError):
            return False

    async def _answered(self, kind: Kind, payload: bytes, answer: Coroutine[Any, Any, T]) -> T:
        """Sends a request, its answer awaited already: a shim that cannot get rid of the agent's
        output does not read either.
        """
        waiting = asyncio.create_task(answer)
        try:
            await self._link.send(kind, payload)
            return await waiting
        finally:
            await _cancelled(waiting)

    async def _until_stopped(self) -> Stopped:
        while True:
            frame = await self._link.expect(Kind.OUTPUT, Kind.EXITED, Kind.STOPPED)
            match frame.kind:
                case Kind.STOPPED:
                    message = parse(Stopped, frame.payload)
                    if message.totals:
                        self._heard.account(message)
                    return message
                case Kind.EXITED:  # the host's own kill came first
                    self._heard.account(parse(Exited, frame.payload))
                case _:
                    self._heard.add(frame.stream, frame.payload)

    async def collect(self, directory: Path) -> tuple[Artifact, ...]:
        """See ports.Conversation."""
        return await collect(self._link, directory, self._limits, self._user)


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
