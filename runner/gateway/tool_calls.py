"""The story of one tool call: counted, checked, called or recalled, and recorded."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonschema import Draft202012Validator
from pydantic import JsonValue

from runner.domain import ToolAnswer, ToolCall, ToolDefinition
from runner.gateway.arguments import Unfit, check_schema, check_shape, echo, validator_of
from runner.gateway.cache import AnswerCache
from runner.gateway.calls import Exchange, Refused
from runner.gateway.exchanges import ExchangeLog, digest_of
from runner.gateway.ledger import Ledger, OverBudget
from runner.gateway.replay import Recording
from runner.ports import Tool

_CALL_SECONDS = 10.0
_RESULT_BYTES = 100_000
_SHOWN_CHARACTERS = 2_000
"""Of the JSON of arguments and of a result in a `ToolCall`."""
_NAME_CHARACTERS = 200
_EXCESS_RECORDED = 20
"""Calls beyond the number allowed that leave a trace: a flood of them must not fill our memory."""


@dataclass(frozen=True, kw_only=True)
class ToolCalls:
    """The tools of one attempt, as its agent may call them."""

    tools: Mapping[str, Tool]
    ledger: Ledger
    log: ExchangeLog
    recording: Recording | None
    """Its answers take the place of the tools'."""
    cache: AnswerCache | None
    on_call: Callable[[ToolCall], None]
    """Told of each call once it is over, however it ended."""
    on_over_budget: Callable[[OverBudget], None]
    numbers: Callable[[], int]
    """The next exchange number."""
    scope: str | None = None
    """What cached answers rest on beside the call (`tools.scope_of`); None: nothing is cached."""
    call_seconds: float = _CALL_SECONDS
    _validators: dict[str, Draft202012Validator] = field(default_factory=dict, init=False)
    _excess: Iterator[int] = field(default_factory=itertools.count, init=False)

    def definitions(self) -> list[ToolDefinition]:
        """What the agent is told of its tools, in the order in which the task names them."""
        return [tool.definition for tool in self.tools.values()]

    async def call(self, name: str, arguments: JsonValue, via: str) -> ToolAnswer:
        """The answer of tool `name`; an error of the tool's is an answer.

        `via` is `http` or `mcp`. Raises Refused, after having recorded the call:
        `tool_calls_exceeded` (429), `unknown_tool` (404), `invalid_arguments` (422),
        `replay_diverged` (409).
        """
        entry = _Entry(self.numbers(), name[:_NAME_CHARACTERS], via)
        try:
            tool = self._admit(entry, name, arguments)
            entry.answer = await self._answer(tool, entry)
        except Refused as refusal:
            entry.refused, entry.error = refusal, refusal.message
            raise
        except BaseException:
            entry.error, entry.complete = "the call was broken off", False
            raise
        finally:
            entry.end()
            self._record(entry)
        return entry.answer

    def _admit(self, entry: _Entry, name: str, arguments: JsonValue) -> Tool:
        try:
            self.ledger.reserve_tool()
        except OverBudget as over:
            entry.recorded = next(self._excess) < _EXCESS_RECORDED
            self.on_over_budget(over)
            message = "the tool calls that this task allows are used up"
            raise Refused(429, "tool_calls_exceeded", message) from None
        if name not in self.tools:
            known = ", ".join(self.tools) or "none"
            message = f"there is no tool {echo(name)}; tools of this task: {known}"
            raise Refused(404, "unknown_tool", message)
        try:
            entry.arguments = check_shape(arguments)
            check_schema(entry.arguments, self._validator(name))
        except Unfit as unfit:
            raise Refused(422, "invalid_arguments", str(unfit)) from None
        return self.tools[name]

    def _validator(self, name: str) -> Draft202012Validator:
        if name not in self._validators:
            self._validators[name] = validator_of(self.tools[name].definition.parameters)
        return self._validators[name]

    async def _answer(self, tool: Tool, entry: _Entry) -> ToolAnswer:
        if self.recording is not None:
            return self._recorded(self.recording, entry)
        if self.cache is None or self.scope is None or not tool.cacheable:
            return await self._asked(tool, entry)
        return await self._cached(self.cache, self.scope, tool, entry)

    def _recorded(self, recording: Recording, entry: _Entry) -> ToolAnswer:
        exchange = recording.take(entry.number, "tool", entry.request)
        if exchange is None:
            message = "this call is not what the recording has at its place"
            raise Refused(409, "replay_diverged", message)
        entry.cached = True
        return _answer_in(exchange)

    async def _cached(
        self, cache: AnswerCache, scope: str, tool: Tool, entry: _Entry
    ) -> ToolAnswer:
        request = {**entry.request, "scope": scope}
        digest = digest_of(request)
        if (found := cache.get(digest)) is not None:
            entry.cached = True
            return _answer_in(found)
        answer = await self._asked(tool, entry)
        if not answer.error:
            cache.put(_exchange(entry.number, request, digest, answer))
        return answer

    async def _asked(self, tool: Tool, entry: _Entry) -> ToolAnswer:
        try:
            async with asyncio.timeout(self.call_seconds):
                answer = await tool.call(entry.arguments or {})
        except TimeoutError:
            return ToolAnswer(error=f"the tool took longer than {self.call_seconds:g} s")
        return _within_size(answer)

    def _record(self, entry: _Entry) -> None:
        if not entry.recorded:
            return
        digest = digest_of(entry.request)
        answer = entry.answer or ToolAnswer(error=entry.error)
        code = entry.refused.code if entry.refused else ""
        status = entry.refused.status if entry.refused else 200
        exchange = _exchange(entry.number, entry.request, digest, answer)
        self.log.write(
            exchange.model_copy(
                update={
                    "status": status,
                    "seconds": entry.seconds,
                    "cached": entry.cached,
                    "refused": code,
                    "complete": entry.complete,
                }
            )
        )
        self.on_call(
            ToolCall(
                number=entry.number,
                name=entry.name,
                via=entry.via,
                arguments=_shown(entry.arguments),
                result=_shown(answer.result),
                succeeded=not answer.error,
                error=answer.error,
                refused=code,
                start_unix_nanos=entry.start_unix_nanos,
                seconds=entry.seconds,
                cached=entry.cached,
                digest=digest,
            )
        )


class _Entry:
    """What becomes known of a call on its way."""

    def __init__(self, number: int, name: str, via: str) -> None:
        self.number = number
        self.name = name.encode("utf-8", "backslashreplace").decode()
        self.via = via
        self.start_unix_nanos = time.time_ns()
        self._began = time.monotonic()
        self.seconds = 0.0
        self.arguments: dict[str, JsonValue] | None = None
        """None: they were not of a shape that could be kept."""
        self.answer: ToolAnswer | None = None
        self.error = ""
        self.refused: Refused | None = None
        self.cached = False
        self.complete = True
        self.recorded = True

    def end(self) -> None:
        self.seconds = time.monotonic() - self._began

    @property
    def request(self) -> dict[str, Any]:
        return {"name": self.name, "arguments": self.arguments}


def _exchange(number: int, request: dict[str, Any], digest: str, answer: ToolAnswer) -> Exchange:
    return Exchange(
        number=number,
        kind="tool",
        digest=digest,
        request=request,
        status=200,
        content_type="application/json",
        chunks=(answer.model_dump_json(),),
    )


def _answer_in(exchange: Exchange) -> ToolAnswer:
    return ToolAnswer.model_validate_json("".join(exchange.chunks))


def _within_size(answer: ToolAnswer) -> ToolAnswer:
    try:
        size = len(json.dumps(answer.result, ensure_ascii=False, allow_nan=False).encode())
    except ValueError:
        return ToolAnswer(error="the result is not JSON")
    if size > _RESULT_BYTES:
        return ToolAnswer(error=f"the result is larger than {_RESULT_BYTES} bytes; ask for less")
    return answer


def _shown(value: JsonValue) -> JsonValue:
    text = json.dumps(value, ensure_ascii=False)
    return value if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS]
