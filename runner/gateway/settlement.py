"""Settles and records a model call, exactly once, however it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any

from runner.domain import ModelCall, Spending, TokenSource
from runner.gateway.cache import AnswerCache
from runner.gateway.calls import Exchange, Usage
from runner.gateway.counting import TokenCounter
from runner.gateway.exchanges import ExchangeLog, digest_of
from runner.gateway.open_call import Admitted, Ending, OpenCall
from runner.gateway.prices import Prices

CLIENT_CLOSED = 499
"""As nginx calls it: the agent was told nothing."""
REFUSED_KEPT = 100
"""Refused calls of which an attempt's recording tells: a flood of them is not to fill the disk."""

_WHOLE = frozenset({"stop", "tool_calls", "end_turn", "tool_use", "stop_sequence", "completed"})
"""Finish reasons of answers that a higher limit of output would not have changed."""


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """Where it is told what a call has used."""

    counter: TokenCounter
    prices: Prices
    log: ExchangeLog
    cache: AnswerCache | None
    on_call: Callable[[ModelCall], None]
    on_spending: Callable[[Spending], None] | None
    task_id: str
    repeat: int
    is_replay: bool = False
    """Then calls cost what they did when they were recorded: budgets are met where they were."""
    _refusals: count[int] = field(default_factory=count, init=False)

    def end(self, call: OpenCall, ending: Ending) -> None:
        """Nothing happens the second time; raises StorageFailed, after the budgets were settled."""
        if call.ended:
            return
        call.ended = True
        usage = self._usage(call, ending)
        cost = self._cost(call, usage)
        if call.admitted is not None:
            # One that took nothing counts as a call all the same: else there would be no end of
            # calls to an upstream that cannot be reached.
            taken = (usage.tokens, cost) if usage is not None else (0, Decimal(0))
            call.admitted.reservation.settle(*taken)
        exchange = _exchange(call, ending, usage)
        self.on_call(_model_call(call, ending, usage, cost, exchange))
        if call.admitted is not None and usage is not None and self.on_spending is not None:
            self.on_spending(self._spending(call, call.admitted, usage, cost))
        if not exchange.refused or next(self._refusals) < REFUSED_KEPT:
            self.log.write(exchange)
        if self.cache is not None and call.admitted is not None:
            self._remember(self.cache, call, call.admitted, ending, exchange)

    def _usage(self, call: OpenCall, ending: Ending) -> Usage | None:
        """None: nothing was sent, or the provider refused it."""
        if call.recalled is not None:
            return usage_of(call.recalled)
        if not call.charged or call.admitted is None:
            return None
        told = None if call.meter is None else _with_audio(call.meter.usage, call.admitted)
        if told is not None and ending is Ending.ANSWERED:
            return told
        counted = self._counted(call, call.admitted)
        if told is not None:
            return replace(told, tokens_output=max(told.tokens_output, counted.tokens_output))
        return counted

    def _counted(self, call: OpenCall, admitted: Admitted) -> Usage:
        """All of the input, and what had come of the output."""
        texts = [] if call.meter is None else call.meter.texts
        tokens, source = self.counter.count(admitted.model, texts)
        if admitted.sent.tokens_besides:
            source = TokenSource.ESTIMATE
        usage = Usage(tokens_input=admitted.tokens_input, tokens_output=tokens, source=source)
        return replace(usage, tokens_audio=admitted.sent.tokens_audio)

    def _cost(self, call: OpenCall, usage: Usage | None) -> Decimal | None:
        if usage is None or call.admitted is None:
            return Decimal(0)
        if call.recalled is not None and not self.is_replay:
            return Decimal(0)
        upstream = call.admitted.upstream
        return self.prices.cost(upstream.name, upstream.provider, call.admitted.model, usage)

    def _spending(
        self, call: OpenCall, admitted: Admitted, usage: Usage, cost: Decimal | None
    ) -> Spending:
        return Spending(
            at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            task_id=self.task_id,
            repeat=self.repeat,
            upstream=admitted.upstream.name,
            model=admitted.model,
            tokens_input=usage.tokens_input,
            tokens_output=usage.tokens_output,
            cost_usd=_paid(call, cost),
            cached=call.recalled is not None,
        )

    def _remember(
        self,
        cache: AnswerCache,
        call: OpenCall,
        admitted: Admitted,
        ending: Ending,
        exchange: Exchange,
    ) -> None:
        fresh = call.recalled is None and ending is Ending.ANSWERED and exchange.status == 200
        reasons = set() if call.meter is None else set(call.meter.finish_reasons)
        same = not admitted.was_limited or (reasons and reasons <= _WHOLE)
        if fresh and admitted.asked.deterministic and same and exchange.usage is not None:
            request = cache_request(admitted)
            renamed = {"request": request, "digest": digest_of(request)}
            cache.put(exchange.model_copy(update=renamed))


def _with_audio(told: Usage | None, admitted: Admitted) -> Usage | None:
    """As much audio as we assume, where the provider does not say how much there was."""
    if told is None or told.tokens_audio:
        return told
    return replace(told, tokens_audio=min(admitted.sent.tokens_audio, told.tokens_input))


def _paid(call: OpenCall, cost: Decimal | None) -> float | None:
    """Nobody was paid for an answer that was there already."""
    if call.recalled is not None:
        return 0.0
    return None if cost is None else float(cost)


def cache_request(admitted: Admitted) -> dict[str, Any]:
    """What a cached answer rests on: the same name may mean another model elsewhere."""
    asked = admitted.exchange_request
    body = {**asked["body"], "model": admitted.model}
    return {**asked, "body": body, "upstream": admitted.upstream.name}


def usage_of(exchange: Exchange) -> Usage | None:
    """What its answer used."""
    if exchange.usage is None:
        return None
    return Usage(**{**exchange.usage, "source": TokenSource(exchange.usage["source"])})


def _status(call: OpenCall, ending: Ending) -> int:
    if call.refused is not None:
        return call.refused.status
    if call.is_broken and not call.is_delivered:
        return 502
    if call.reply is not None:
        return call.reply.status
    return CLIENT_CLOSED if ending is Ending.ABORTED else 502


def _exchange(call: OpenCall, ending: Ending, usage: Usage | None) -> Exchange:
    request = {"api": call.api.value, "body": {"model": call.model}}
    if call.admitted is not None:
        request = call.admitted.exchange_request
    answered = call.is_delivered or not call.is_broken
    return Exchange(
        number=call.number,
        kind="model",
        digest=digest_of(request),
        request=request,
        status=_status(call, ending),
        content_type=call.reply.content_type if call.reply and answered else "",
        chunks=call.passed.taken() if answered else (),
        retries=0 if call.reply is None else call.reply.retries,
        usage=None if usage is None else {**asdict(usage), "source": usage.source.value},
        seconds=call.seconds,
        cached=call.recalled is not None,
        refused="" if call.refused is None else call.refused.code,
        complete=ending is Ending.ANSWERED and call.refused is None,
    )


def _model_call(
    call: OpenCall,
    ending: Ending,
    usage: Usage | None,
    cost: Decimal | None,
    exchange: Exchange,
) -> ModelCall:
    failed = "upstream_failed" if ending is Ending.BROKEN else ""
    return ModelCall(
        number=call.number,
        api=call.api,
        model=call.model,
        upstream=call.admitted.upstream.name if call.admitted else "",
        status=exchange.status,
        refused=exchange.refused or failed,
        start_unix_nanos=call.start_unix_nanos,
        seconds=exchange.seconds,
        first_chunk_seconds=call.first_chunk_seconds,
        waited_seconds=min(call.waited_seconds, exchange.seconds),
        retries=call.pauses if call.reply is None else call.reply.retries,
        tokens_input=usage.tokens_input if usage else 0,
        tokens_output=usage.tokens_output if usage else 0,
        token_source=usage.source if usage else None,
        cost_usd=None if usage is None or cost is None else float(cost),
        finish_reasons=call.meter.finish_reasons if call.meter else (),
        streamed=call.admitted.asked.streamed if call.admitted else False,
        aborted=ending is Ending.ABORTED,
        cached=call.recalled is not None,
        request_bytes=call.request_bytes,
        response_bytes=call.passed.bytes,
        digest=exchange.digest,
    )
