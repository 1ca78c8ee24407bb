"""Tools that fail by a script: the same failures for every agent."""

from __future__ import annotations

import pytest

from runner.gateway.tools.flaky import TIMED_OUT, UNAVAILABLE
from tests.unit.gateway.tools.asking import ask, error, tool


async def test_the_script_says_what_becomes_of_each_call() -> None:
    store = tool("key_value", flaky=["error", "ok", "timeout", "malformed", "ok"])
    assert await error(store, operation="set", key="a", value=12345) == UNAVAILABLE
    assert await ask(store, operation="list") == {"keys": [], "total": 0}
    assert await error(store, operation="set", key="a", value=12345) == TIMED_OUT
    assert await ask(store, operation="set", key="a", value=12345) == '{"stored'
    # Of these three the last one alone was carried out.
    assert await ask(store, operation="get", key="a") == {"value": 12345}
    assert await ask(store, operation="get", key="a") == {"value": 12345}


async def test_the_last_repeats_unless_another_is_given() -> None:
    stuck = tool("calculator", flaky=["ok", "error"])
    assert await ask(stuck, expression="1") == 1
    for _ in range(3):
        assert await error(stuck, expression="1") == UNAVAILABLE

    mended = tool("calculator", flaky=["error"], flaky_then="ok")
    await error(mended, expression="1")
    for _ in range(3):
        assert await ask(mended, expression="1") == 1

    broken = tool("calculator", flaky_then="error")
    await error(broken, expression="1")


async def test_slow_answers_come_late_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("runner.gateway.tools.flaky.asyncio.sleep", sleep)
    late = tool("calculator", flaky=["slow"], slow_seconds=2.5)
    assert await ask(late, expression="1 + 1") == 2
    assert slept == [2.5]


async def test_an_error_of_the_tool_is_not_malformed() -> None:
    cut = tool("calculator", flaky=["malformed"])
    assert await error(cut, expression="1 / 0") == "division by zero"
    assert await ask(cut, expression="1") == "1"


def test_nothing_tells_that_it_is_flaky_and_nothing_is_cached() -> None:
    flaky = tool("calculator", flaky=["ok"])
    assert flaky.definition == tool("calculator").definition
    assert tool("calculator").cacheable
    assert not flaky.cacheable
