"""One tool call: counted, checked, bounded, recorded, recalled."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from runner.domain import Budget, ToolAnswer, ToolCall, ToolDefinition
from runner.gateway.arguments import Unfit, check_schema, check_shape, validator_of
from runner.gateway.cache import AnswerCache
from runner.gateway.calls import Exchange, Refused
from runner.gateway.exchanges import ExchangeLog, digest_of, load_exchanges
from runner.gateway.ledger import Ledger, OverBudget
from runner.gateway.replay import Recording
from runner.gateway.tool_calls import ToolCalls

SCHEMA: dict[str, JsonValue] = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0}},
    "required": ["n"],
    "additionalProperties": False,
}


class Doubler:
    """Doubles a number; what it does beside that, a test says."""

    cacheable = True

    def __init__(self) -> None:
        self.asked = 0
        self.answer: ToolAnswer | None = None
        self.gate: asyncio.Event | None = None
        self.begun = asyncio.Event()

    @property
    def definition(self) -> ToolDefinition:
        return ToolDefinition(name="double", description="Doubles n.", parameters=SCHEMA)

    async def call(self, arguments: Mapping[str, JsonValue]) -> ToolAnswer:
        self.asked += 1
        self.begun.set()
        if self.gate:
            await self.gate.wait()
        n = arguments["n"]
        assert isinstance(n, int | float)
        return self.answer or ToolAnswer(result=2 * n)


@dataclass
class Room:
    """What surrounds the tool calls of one attempt."""

    path: Path
    tool_calls: int | None = None
    recording: Recording | None = None
    cache: AnswerCache | None = None
    scope: str | None = None
    call_seconds: float = 10
    tool: Doubler = field(default_factory=Doubler)
    seen: list[ToolCall] = field(default_factory=list)
    over: list[OverBudget] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = ExchangeLog(self.path)
        self.calls = ToolCalls(
            tools={"double": self.tool},
            ledger=Ledger(Budget(tool_calls=self.tool_calls)),
            log=self.log,
            recording=self.recording,
            cache=self.cache,
            on_call=self.seen.append,
            on_over_budget=self.over.append,
            numbers=itertools.count(1).__next__,
            scope=self.scope,
            call_seconds=self.call_seconds,
        )

    async def double(self, n: JsonValue) -> ToolAnswer:
        return await self.calls.call("double", {"n": n}, "http")

    def exchanges(self) -> list[Exchange]:
        self.log.close()
        return list(load_exchanges(self.path))


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path / "exchanges.jsonl")


async def refusal(room: Room, name: str, arguments: JsonValue) -> Refused:
    with pytest.raises(Refused) as raised:
        await room.calls.call(name, arguments, "http")
    assert raised.value.message.isprintable()
    assert len(raised.value.message) <= 400
    return raised.value


async def test_a_call_is_answered_and_recorded(room: Room) -> None:
    assert await room.calls.call("double", {"n": 21}, "mcp") == ToolAnswer(result=42)
    [call] = room.seen
    digest = digest_of({"name": "double", "arguments": {"n": 21}})
    assert (call.number, call.name, call.via, call.digest) == (1, "double", "mcp", digest)
    assert (call.arguments, call.result, call.succeeded) == ({"n": 21}, 42, True)
    assert (call.error, call.refused, call.cached) == ("", "", False)
    [exchange] = room.exchanges()
    assert (exchange.number, exchange.kind, exchange.digest) == (1, "tool", digest)
    assert exchange.request == {"name": "double", "arguments": {"n": 21}}
    assert json.loads(exchange.chunks[0]) == {"result": 42, "error": ""}
    assert (exchange.status, exchange.refused) == (200, "")
    assert exchange.seconds == call.seconds


async def test_an_error_of_the_tool_is_an_answer(room: Room) -> None:
    room.tool.answer = ToolAnswer(error="no")
    assert (await room.double(1)).error == "no"
    [call] = room.seen
    assert (call.succeeded, call.error, call.refused, call.result) == (False, "no", "", None)


async def test_definitions_are_those_of_the_tools(room: Room) -> None:
    assert room.calls.definitions() == [room.tool.definition]


async def test_an_unknown_tool(room: Room) -> None:
    refused = await refusal(room, "tri\nple" * 100, {})
    assert (refused.status, refused.code) == (404, "unknown_tool")
    assert "tools of this task: double" in refused.message
    [call] = room.seen
    assert (call.refused, call.succeeded, len(call.name)) == ("unknown_tool", False, 200)
    [exchange] = room.exchanges()
    assert (exchange.status, exchange.refused) == (404, "unknown_tool")


MISFITS: list[tuple[Any, str]] = [
    ({}, "arguments must have 'n'"),
    ({"n": "1"}, "arguments.n must be of type integer"),
    ({"n": True}, "arguments.n must be of type integer"),
    ({"n": -1}, "arguments.n must meet minimum: 0"),
    ({"n": 1, "m\n": 2}, "arguments must not have 'm\\n'"),
    (None, "arguments must be a JSON object"),
    ([1], "arguments must be a JSON object"),
    ("n", "arguments must be a JSON object"),
    ({"n": float("nan")}, "NaN"),
    ({"n": float("inf")}, "NaN"),
    ({"n": "\ud800"}, "half a character"),
    ({"n": "x" * 300_000}, "larger than 262144 bytes"),
    ({"n": [0] * 2_000}, "more than 2000 values"),
    ({"n": [[0] * 50] * 50}, "more than 2000 values"),
]


@pytest.mark.parametrize(("arguments", "reason"), MISFITS, ids=[reason for _, reason in MISFITS])
async def test_arguments_that_do_not_fit(room: Room, arguments: Any, reason: str) -> None:
    refused = await refusal(room, "double", arguments)
    assert (refused.status, refused.code) == (422, "invalid_arguments")
    assert reason in refused.message
    assert room.tool.asked == 0
    assert [call.refused for call in room.seen] == ["invalid_arguments"]
    assert [exchange.refused for exchange in room.exchanges()] == ["invalid_arguments"]


@pytest.mark.parametrize("kind", ["list", "dict"])
async def test_arguments_of_any_depth(room: Room, kind: str) -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep] if kind == "list" else {"n": deep}
    assert "nested more than 32 deep" in (await refusal(room, "double", {"n": deep})).message
    while isinstance(deep, list | dict):  # taken apart from the top: Python's own way recurses
        deep = deep[0] if kind == "list" else deep["n"]


async def test_long_things_are_echoed_in_part(room: Room) -> None:
    refused = await refusal(room, "double", {"n": 1, "x" * 100_000: 1})
    assert len(refused.message) < 100


async def test_the_number_of_calls_is_limited_and_all_count(tmp_path: Path) -> None:
    room = Room(tmp_path / "x", tool_calls=3)
    await room.double(1)
    await refusal(room, "nosuch", {})
    await refusal(room, "double", {})
    refused = await refusal(room, "double", {"n": 1})
    assert (refused.status, refused.code) == (429, "tool_calls_exceeded")
    assert room.tool.asked == 1
    assert [over.kind for over in room.over] == [None]
    assert [call.number for call in room.seen] == [1, 2, 3, 4]


async def test_a_flood_beyond_the_number_does_not_fill_the_record(tmp_path: Path) -> None:
    room = Room(tmp_path / "x", tool_calls=0)
    for _ in range(500):
        await refusal(room, "double", {"n": 1})
    assert len(room.seen) == len(room.exchanges()) == 20
    assert len(room.over) == 500


async def test_a_thousand_at_once_are_as_many_as_allowed(tmp_path: Path) -> None:
    room = Room(tmp_path / "x", tool_calls=100)
    ends = await asyncio.gather(*(room.double(n) for n in range(1000)), return_exceptions=True)
    assert sum(isinstance(end, ToolAnswer) for end in ends) == room.tool.asked == 100
    assert sum(isinstance(end, Refused) for end in ends) == 900


async def test_long_arguments_and_results_are_cut_in_the_call_alone(room: Room) -> None:
    room.tool.answer = ToolAnswer(result={"text": "é" * 3000})
    answer = await room.double(int("1" * 2500))
    [call] = room.seen
    assert isinstance(call.arguments, str)
    assert isinstance(call.result, str)
    assert (len(call.arguments), len(call.result)) == (2000, 2000)
    assert call.arguments.startswith('{"n": 111')
    [exchange] = room.exchanges()
    assert exchange.request["arguments"] == {"n": int("1" * 2500)}
    assert json.loads(exchange.chunks[0])["result"] == answer.result == {"text": "é" * 3000}


@pytest.mark.parametrize(
    ("result", "reason"),
    [("x" * 100_000, "larger than 100000 bytes"), ([float("nan")], "not JSON"), ("\ud800", "not")],
)
async def test_results_that_are_not_passed_on(room: Room, result: Any, reason: str) -> None:
    room.tool.answer = ToolAnswer.model_construct(result=result, error="")
    answer = await room.double(1)
    assert answer.result is None
    assert reason in answer.error
    assert room.seen[0].result is None


async def test_a_tool_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    room = Room(tmp_path / "x", call_seconds=0.01)
    room.tool.gate = asyncio.Event()
    assert (await room.double(1)).error == "the tool took longer than 0.01 s"
    assert room.seen[0].succeeded is False


async def test_a_call_that_is_broken_off_is_recorded(room: Room) -> None:
    room.tool.gate = asyncio.Event()
    calling = asyncio.create_task(room.double(1))
    await room.tool.begun.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert [call.error for call in room.seen] == ["the call was broken off"]
    assert [exchange.complete for exchange in room.exchanges()] == [False]


# -- replay and cache ----------------------------------------------------------------------------


async def test_a_replay_asks_the_recording_and_no_tool(room: Room, tmp_path: Path) -> None:
    await room.double(1)
    room.tool.answer = ToolAnswer(error="no")
    await room.double(2)
    await refusal(room, "double", {})

    replay = Room(tmp_path / "again", recording=Recording(room.exchanges()))
    assert await replay.double(1) == ToolAnswer(result=2)
    assert await replay.double(2) == ToolAnswer(error="no")
    assert (await refusal(replay, "double", {})).code == "invalid_arguments"
    assert replay.tool.asked == 0
    assert [call.cached for call in replay.seen] == [True, True, False]
    assert [call.digest for call in replay.seen] == [call.digest for call in room.seen]


async def test_a_replay_that_goes_another_way(room: Room, tmp_path: Path) -> None:
    await room.double(1)
    recording = Recording(room.exchanges())
    replay = Room(tmp_path / "again", recording=recording)
    refused = await refusal(replay, "double", {"n": 2})
    assert (refused.status, refused.code) == (409, "replay_diverged")
    assert recording.divergence is not None
    assert recording.divergence.requested == {"name": "double", "arguments": {"n": 2}}


def cached_room(tmp_path: Path, name: str, scope: str | None = "world") -> Room:
    return Room(tmp_path / name, cache=AnswerCache(tmp_path / "cache"), scope=scope)


async def test_the_same_call_in_the_same_world_comes_from_the_cache(tmp_path: Path) -> None:
    first, second = cached_room(tmp_path, "a"), cached_room(tmp_path, "b")
    await first.double(1)
    assert await second.double(1) == ToolAnswer(result=2)
    assert second.tool.asked == 0
    assert (first.seen[0].cached, second.seen[0].cached) == (False, True)
    assert first.seen[0].digest == second.seen[0].digest
    [exchange] = second.exchanges()
    assert exchange.cached
    assert exchange.request == {"name": "double", "arguments": {"n": 1}}


async def test_another_world_or_none_has_no_part_in_it(tmp_path: Path) -> None:
    await cached_room(tmp_path, "a").double(1)
    for scope in ("other", None):
        room = cached_room(tmp_path, f"b{scope}", scope)
        await room.double(1)
        assert room.tool.asked == 1


async def test_errors_and_tools_with_a_state_are_not_cached(tmp_path: Path) -> None:
    failing = cached_room(tmp_path, "a")
    failing.tool.answer = ToolAnswer(error="no")
    await failing.double(1)
    stateful = cached_room(tmp_path, "b")
    stateful.tool.cacheable = False
    await stateful.double(1)
    await stateful.double(1)
    fresh = cached_room(tmp_path, "c")
    await fresh.double(1)
    assert (stateful.tool.asked, fresh.tool.asked) == (2, 1)


# -- any arguments -------------------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(anything)
def test_whatever_is_given_fits_or_is_refused_in_one_line(value: Any) -> None:
    try:
        check_schema(check_shape(value), validator_of(SCHEMA))
    except Unfit as unfit:
        message = str(unfit)
    else:
        message = "fits"
        assert isinstance(value["n"], int | float)
    assert message.isprintable()
    assert len(message) < 300
