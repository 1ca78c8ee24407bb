"""agenttrace/scripted: answers by rules, without a network; it is no language model."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

from runner.domain import Api
from runner.gateway.apis.checks import compact
from runner.gateway.calls import ModelRequest, Progress, Refused, UpstreamBroken, UpstreamReply
from runner.gateway.counting import TokenCounter
from runner.gateway.upstreams.conversation import Conversation, conversation_of
from runner.gateway.upstreams.embedding import embeddings
from runner.gateway.upstreams.patience import PASSING_STATUSES, Patience, Sleep, Trouble
from runner.gateway.upstreams.said import Said, SaidCall
from runner.gateway.upstreams.script import Rule, Script, filled, filled_all, load_script
from runner.gateway.upstreams.wire import events, whole

__all__ = ["MODEL", "OWNER", "UPSTREAM", "ScriptedUpstream", "load_script"]

UPSTREAM = "agenttrace"
NAME = "scripted"
MODEL = f"{UPSTREAM}/{NAME}"
OWNER = "agenttrace (no language model)"
ECHO_CHARACTERS = 200
"""Of the agent's own text, at most, in a reply."""

_JSON = "application/json"
_EVENTS = "text/event-stream"


class ScriptedUpstream:
    """Implements calls.Upstream. The same requests in the same order get the same answers."""

    name = UPSTREAM
    provider = UPSTREAM
    owned_by = OWNER
    apis = frozenset(Api)
    counts_as_we_do = True

    def __init__(
        self,
        script: Script,
        counter: TokenCounter | None = None,
        *,
        retries: int = 4,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._rules = script.rule
        self._counter = counter or TokenCounter()
        self._patience = Patience(retries=retries, sleep=sleep)
        self._used: Counter[int] = Counter()
        """How often each rule has held, by its place."""

    @asynccontextmanager
    async def send(self, request: ModelRequest, progress: Progress) -> AsyncIterator[UpstreamReply]:
        """See calls.Upstream; raises Refused for another model than its own."""
        if request.body.get("model") != NAME:
            raise Refused(404, "model_not_found", f"the only model here is {MODEL}")
        tries = 0

        async def once() -> UpstreamReply:
            nonlocal tries
            tries += 1
            return self._once(request, progress, tries - 1)

        try:
            reply = await self._patience.until_answered(once, progress)
        except Trouble as trouble:
            if trouble.answer is None:
                raise UpstreamBroken(str(trouble)) from trouble
            reply = trouble.answer
        yield reply

    def _once(self, request: ModelRequest, progress: Progress, retries: int) -> UpstreamReply:
        if request.api is Api.EMBEDDINGS:
            progress.sent()
            answer = embeddings(request.body, MODEL, self._tokens_input(request))
            return _reply([compact(answer).encode()], _JSON, retries=retries)
        seen = conversation_of(request)
        rule = self._rule(seen)
        if rule is not None and rule.status is not None:
            return _trouble(rule, rule.status, retries)
        progress.sent()
        return self._answered(request, seen, rule, retries)

    def _rule(self, seen: Conversation) -> Rule | None:
        for place, rule in enumerate(self._rules):
            spent = rule.times is not None and self._used[place] >= rule.times
            if not spent and _holds(rule, seen):
                self._used[place] += 1
                return rule
        return None

    def _answered(
        self, request: ModelRequest, seen: Conversation, rule: Rule | None, retries: int
    ) -> UpstreamReply:
        rule = rule or Rule(reply="No rule of the script answers this.")
        said = self._said(request, seen, rule)
        if not request.streamed:
            body = [compact(whole(request, MODEL, said)).encode()]
            return _reply(
                body, _JSON, retries=retries, cut=None if rule.break_after_chunks is None else 0
            )
        chunks = events(request, MODEL, said, rule.chunk_count)
        cut = rule.break_after_chunks
        return _reply(chunks, _EVENTS, retries=retries, cut=cut)

    def _said(self, request: ModelRequest, seen: Conversation, rule: Rule) -> Said:
        values = _values(rule, seen)
        text = filled(rule.reply or "", values)
        if rule.output_tokens is not None:
            text = self._filler(rule.output_tokens)
        calls = tuple(
            SaidCall(name=call.name, arguments=compact(filled_all(dict(call.arguments), values)))
            for call in rule.tool_calls
        )
        said = self._within(request.max_output_tokens, text, calls)
        if not rule.usage:
            return said
        tokens = request.choices * self._tokens(said.texts)
        return said.with_usage(self._tokens_input(request), tokens)

    def _within(self, limit: int | None, text: str, calls: tuple[SaidCall, ...]) -> Said:
        """All of it, or as much of the text as the limit allows."""
        said = Said(text=text, calls=calls)
        if limit is None or self._tokens(said.texts) <= limit:
            return said
        return Said(text=self._cut(text, limit), cut_short=True)

    def _cut(self, text: str, tokens: int) -> str:
        """The longest beginning of `text` that has at most so many tokens."""
        least, most = 0, len(text)
        while least < most:
            middle = (least + most + 1) // 2
            if self._tokens([text[:middle]]) <= tokens:
                least = middle
            else:
                most = middle - 1
        return text[:least]

    def _filler(self, tokens: int) -> str:
        """A text of exactly so many tokens."""
        return self._cut("filler text " * tokens, tokens)

    def _tokens(self, texts: Sequence[str]) -> int:
        return self._counter.count(MODEL, texts)[0]

    def _tokens_input(self, request: ModelRequest) -> int:
        counted = self._counter.count(MODEL, request.texts, request.messages)[0]
        return counted + request.tokens_besides


def _holds(rule: Rule, seen: Conversation) -> bool:
    return (
        (rule.tool_result is None or rule.tool_result == seen.is_tool_result)
        and (rule.turn is None or rule.turn == seen.turn)
        and (rule.offers is None or rule.offers in seen.offers)
        and (rule.pattern is None or rule.pattern.search(seen.text) is not None)
    )


def _values(rule: Rule, seen: Conversation) -> Mapping[str, str]:
    echo = {"text": seen.text[:ECHO_CHARACTERS], "result": seen.result[:ECHO_CHARACTERS]}
    found = None if rule.pattern is None else rule.pattern.search(seen.text)
    if found is None:
        return echo
    groups = dict(enumerate([found.group(0), *found.groups()]))
    numbered = {str(number): group or "" for number, group in groups.items()}
    named = {name: group or "" for name, group in found.groupdict().items()}
    return {**echo, "match": found.group(0), **numbered, **named}


def _trouble(rule: Rule, status: int, retries: int) -> UpstreamReply:
    """The provider's trouble, as a rule wants it; raises Trouble where it may pass."""
    error = {"message": f"scripted trouble ({status})", "type": "scripted_trouble"}
    reply = _reply([json.dumps({"error": error}).encode()], _JSON, status=status, retries=retries)
    if status not in PASSING_STATUSES:
        return reply
    asked = rule.retry_after_seconds or 0.0
    raise Trouble(f"it answered {status}", asked_seconds=asked, answer=reply)


def _reply(
    chunks: Sequence[bytes],
    content_type: str,
    *,
    retries: int,
    status: int = 200,
    cut: int | None = None,
) -> UpstreamReply:
    body = _body(iter(chunks[:cut] if cut is not None else chunks), broken=cut is not None)
    return UpstreamReply(status=status, content_type=content_type, body=body, retries=retries)


async def _body(chunks: Iterator[bytes], *, broken: bool) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
        await asyncio.sleep(0)  # other streams go on between two pieces
    if broken:
        raise UpstreamBroken("the script breaks the answer off")
