"""What was said in an attempt's calls, cut to what a trace may hold and without keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from runner.records import semconv
from runner.records.answers import said, tool_answer
from runner.records.conversation import AskedTool, Turn, told
from runner.records.encoding import Json, json_text
from runner.records.exchanges import TOOL, RecordedExchange
from runner.records.redaction import kept_text, kept_value

CALL_CHARACTERS = 1_000_000
"""Of the messages of one call; earlier ones are left out, for the later ones tell more."""
TRACE_CHARACTERS = 16_000_000
"""Of all calls; those that come after it are told without texts."""
LEAST_ROOM = 100
"""Characters below which no further exchange is even read."""


class CallTexts:
    """The texts of each call by its number; reads the exchanges once, one at a time."""

    def __init__(self, exchanges: Iterable[RecordedExchange] = ()) -> None:
        self._models: dict[int, Mapping[str, Any]] = {}
        self._tools: dict[int, tuple[Any, Any]] = {}
        room = TRACE_CHARACTERS
        for exchange in exchanges:
            room -= self._note(exchange, room)
            if room < LEAST_ROOM:
                break

    def of_model(self, number: int) -> Mapping[str, Any]:
        """Attributes of the event that tells of a call; empty: nothing was kept of it."""
        return self._models.get(number, {})

    def of_tool(self, number: int) -> tuple[Any, Any] | None:
        """Arguments and result."""
        return self._tools.get(number)

    def _note(self, exchange: RecordedExchange, room: int) -> int:
        """Keeps the texts of an exchange; how many characters they have."""
        if exchange.kind == TOOL:
            result, _ = tool_answer(exchange)
            pair = kept_value(exchange.request.get("arguments")), kept_value(result)
            size = len(json_text(pair))
            if size <= min(room, CALL_CHARACTERS):
                self._tools[exchange.number] = pair
                return size
            return 0
        self._models[exchange.number], size = _told_and_said(exchange, min(room, CALL_CHARACTERS))
        return size


def _told_and_said(exchange: RecordedExchange, room: int) -> tuple[Json, int]:
    answer, left_out_of_answer, size = _newest(said(exchange), room)
    request, left_out, more = _newest(told(exchange), room - size)
    values = {
        semconv.INPUT_MESSAGES: json_text(request),
        semconv.OUTPUT_MESSAGES: json_text(answer),
        semconv.MESSAGES_LEFT_OUT: (left_out + left_out_of_answer) or None,
    }
    return values, size + more


def _newest(turns: tuple[Turn, ...], room: int) -> tuple[list[Json], int, int]:
    """The last messages that fit; how many do not; the size of those that do."""
    kept: list[Json] = []
    size = 0
    for turn in reversed(turns):
        message = _message(turn)
        length = len(json_text(message))
        if size + length > room:
            break
        kept.append(message)
        size += length
    return kept[::-1], len(turns) - len(kept), size


def _message(turn: Turn) -> Json:
    return {"role": kept_text(turn.role[:100]), "parts": list(_parts(turn))}


def _parts(turn: Turn) -> Iterator[Json]:
    """As the conventions' schemas of input and output messages have them."""
    if turn.reasoning:
        yield {"type": "reasoning", "content": kept_text(turn.reasoning)}
    if turn.answers:
        yield {
            "type": "tool_call_response",
            "id": kept_text(turn.answers),
            "response": kept_text(turn.text),
        }
    elif turn.text or not turn.tool_calls:
        yield {"type": "text", "content": kept_text(turn.text)}
    yield from map(_call_part, turn.tool_calls)


def _call_part(call: AskedTool) -> Json:
    return {
        "type": "tool_call",
        "id": kept_text(call.call_id),
        "name": kept_text(call.name),
        "arguments": kept_text(call.arguments),
    }
