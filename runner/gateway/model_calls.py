"""The story of one model call: checked, routed, counted, reserved, answered, settled, recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from functools import cached_property
from types import TracebackType
from typing import TypeVar

from runner.domain import Api, ModelCall, Spending
from runner.domain.text import one_line
from runner.gateway.admission import Admission
from runner.gateway.apis import meter, parse, prepared
from runner.gateway.bodies import StreamBody, closing_body, next_piece, reply_in
from runner.gateway.cache import AnswerCache
from runner.gateway.calls import (
    Answer,
    Exchange,
    Meter,
    ModelRequest,
    Refused,
    UpstreamBroken,
    UpstreamReply,
)
from runner.gateway.counting import TokenCounter
from runner.gateway.exchanges import ExchangeLog, digest_of
from runner.gateway.large_answers import HeldAnswer
from runner.gateway.ledger import Ledger, OverBudget
from runner.gateway.open_call import Admitted, Ending, ModelWaits, OpenCall
from runner.gateway.prices import Prices
from runner.gateway.replay import Recording
from runner.gateway.room import RequestRoom
from runner.gateway.settlement import Settlement, cache_request
from runner.gateway.upstreams.routing import Upstreams

T = TypeVar("T")

LARGE_BYTES = 64 * 1024
"""Requests from here on are read and counted in a thread: other attempts are served meanwhile."""
LARGE_ANSWERS = 2
"""Of the largest size at once, that are no streams: as much of an attempt's is in memory."""

_EVENTS = "text/event-stream"


@dataclass(frozen=True, kw_only=True)
class ModelCalls:
    """The models of one attempt, as its agent may call them."""

    upstreams: Upstreams
    ledger: Ledger
    counter: TokenCounter
    prices: Prices
    log: ExchangeLog
    recording: Recording | None
    """Its answers take the place of all upstreams'."""
    cache: AnswerCache | None
    waits: ModelWaits
    margin: float
    """How much more than our own count an input is assumed to be."""
    on_call: Callable[[ModelCall], None]
    """Told of each call once it is over, however it ended."""
    on_spending: Callable[[Spending], None] | None
    """Told of each call that used anything."""
    on_over_budget: Callable[[OverBudget], None]
    numbers: Callable[[], int]
    """The next exchange number."""
    response_bytes: int
    """Of one answer, at most."""
    call_seconds: float
    """Of one call at most, pauses included."""
    task_id: str
    repeat: int

    def models(self) -> list[str]:
        """Names under which models can be called."""
        return self.upstreams.models()

    def owner(self, model: str) -> str:
        """Who is said to own one of them."""
        return self.upstreams.owner(model)

    async def call(self, api: Api, raw: bytes, headers: Mapping[str, str]) -> Answer:
        """The answer; its body, where it comes in pieces, is read or closed by the caller.

        Raises Refused, also while such a body is read: the upstream broke off. Cancelled, or
        closed early: the agent has gone. Whatever happens, the call is settled and recorded.
        """
        call = OpenCall(number=self.numbers(), api=api, request_bytes=len(raw), waits=self.waits)
        deadline = asyncio.get_running_loop().time() + self.call_seconds
        async with AsyncExitStack() as stack:
            stack.push(_Ended(self._settlement, call))
            await stack.enter_async_context(self.waits.model_call())
            try:
                async with asyncio.timeout_at(deadline):
                    call.admitted = await self._admitted(call, raw, headers)
                    call.reply = await self._reply(call, call.admitted, stack)
                    call.meter = _meter(call.admitted.asked, call.reply)
                    if not _is_stream(call.reply):
                        return await self._whole(call, call.reply)
            except (UpstreamBroken, TimeoutError) as error:
                raise self._broken(call, error) from error
            owned = stack.pop_all()
            return _answer(
                call.reply, StreamBody(self._stream(call, call.reply, owned, deadline), owned)
            )

    async def _admitted(self, call: OpenCall, raw: bytes, headers: Mapping[str, str]) -> Admitted:
        asked = await _elsewhere(len(raw), parse, call.api, raw, headers)
        call.model = asked.model
        upstream, routed = self.upstreams.route(asked)
        model = str(routed.body["model"])
        counted, _ = await _elsewhere(
            len(raw), self.counter.count, model, asked.texts, asked.messages
        )
        tokens = counted + asked.tokens_besides
        sent, reservation = await self._admission.admit(prepared(routed), upstream, tokens)
        return Admitted(
            asked=asked,
            sent=sent,
            upstream=upstream,
            tokens_input=tokens,
            reservation=reservation,
        )

    async def _reply(
        self, call: OpenCall, admitted: Admitted, stack: AsyncExitStack
    ) -> UpstreamReply:
        """From the recording, the cache or the upstream."""
        call.recalled = self._recalled(call, admitted)
        if call.recalled is not None:
            return reply_in(call.recalled)
        reply = await stack.enter_async_context(admitted.upstream.send(admitted.sent, call))
        stack.push(_Ended(self._settlement, call))  # before the upstream's connection is closed
        return reply

    def _recalled(self, call: OpenCall, admitted: Admitted) -> Exchange | None:
        if self.recording is not None:
            found = self.recording.take(call.number, "model", admitted.exchange_request)
            if found is None:
                message = "this request is not what the recording has at its place"
                raise Refused(409, "replay_diverged", message)
            return found
        if self.cache is not None and admitted.asked.deterministic:
            return self.cache.get(digest_of(cache_request(admitted)))
        return None

    async def _whole(self, call: OpenCall, reply: UpstreamReply) -> Answer:
        """Read to its end before the agent gets any of it: it is whole, or an error."""
        held = HeldAnswer(self._room, self.response_bytes)
        try:
            async for piece in self._metered(call, reply):
                await held.add(piece)
            self._settlement.end(call, Ending.ANSWERED)
        except BaseException:
            held.close()
            raise
        return _answer(reply, held.body())

    async def _stream(
        self, call: OpenCall, reply: UpstreamReply, stack: AsyncExitStack, deadline: float
    ) -> AsyncGenerator[bytes, None]:
        """Passed on as it comes."""
        async with stack, aclosing(self._metered(call, reply)) as pieces:
            try:
                while (piece := await next_piece(pieces, deadline)) is not None:
                    call.is_delivered = True
                    yield piece
            except (UpstreamBroken, TimeoutError) as error:
                raise self._broken(call, error) from error
            self._settlement.end(call, Ending.ANSWERED)

    async def _metered(self, call: OpenCall, reply: UpstreamReply) -> AsyncGenerator[bytes, None]:
        """What the agent gets of it, read on the way; raises UpstreamBroken."""
        reader = call.meter
        assert reader is not None  # noqa: S101 - made with the reply
        received = 0
        async with closing_body(reply.body) as chunks:
            async for chunk in chunks:
                if call.first_chunk_seconds is None:
                    call.first_chunk_seconds = call.seconds
                received += len(chunk)
                if received > self.response_bytes:
                    raise UpstreamBroken(f"its answer is larger than {self.response_bytes} bytes")
                if passed := reader.feed(chunk):
                    call.passed.add(passed)
                    yield passed
        if rest := reader.end():
            call.passed.add(rest)
            yield rest

    def _broken(self, call: OpenCall, error: Exception) -> Refused:
        """What the agent is told; once it has got a part of the answer, it is broken off."""
        call.is_broken = True
        why = str(error)
        if isinstance(error, TimeoutError):
            why = f"the call took longer than {self.call_seconds:g} s"
        return Refused(502, "upstream_failed", f"the model's provider failed: {one_line(why)}")

    @cached_property
    def _room(self) -> RequestRoom:
        return RequestRoom(self.response_bytes * LARGE_ANSWERS)

    @cached_property
    def _admission(self) -> Admission:
        return Admission(
            ledger=self.ledger,
            prices=self.prices,
            margin=self.margin,
            on_over_budget=self.on_over_budget,
        )

    @cached_property
    def _settlement(self) -> Settlement:
        return Settlement(
            counter=self.counter,
            prices=self.prices,
            log=self.log,
            cache=self.cache,
            on_call=self.on_call,
            on_spending=self.on_spending,
            task_id=self.task_id,
            repeat=self.repeat,
            is_replay=self.recording is not None,
        )


class _Ended:
    """On exit a call that has not ended yet ends as what it was left by says."""

    def __init__(self, settlement: Settlement, call: OpenCall) -> None:
        self._settlement = settlement
        self._call = call

    def __enter__(self) -> None:
        """Nothing: a call is open from its beginning."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Refused) and not self._call.is_broken:
            self._call.refused = error
        failed = isinstance(error, Exception)
        self._settlement.end(self._call, Ending.BROKEN if failed else Ending.ABORTED)


async def _elsewhere(size: int, work: Callable[..., T], *arguments: object) -> T:
    """In a thread where there is much to do."""
    if size < LARGE_BYTES:
        return work(*arguments)
    return await asyncio.to_thread(work, *arguments)


def _meter(asked: ModelRequest, reply: UpstreamReply) -> Meter:
    """By what came: a stream that was asked for may be refused by an object."""
    return meter(replace(asked, streamed=_is_stream(reply)))


def _is_stream(reply: UpstreamReply) -> bool:
    return reply.content_type.startswith(_EVENTS)


def _answer(reply: UpstreamReply, body: bytes | AsyncIterator[bytes]) -> Answer:
    return Answer(status=reply.status, content_type=reply.content_type, body=body)
