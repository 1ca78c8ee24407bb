"""How the tests here make tools and ask them."""

from __future__ import annotations

from typing import Any

from pydantic import JsonValue

from runner.domain import ToolAnswer
from runner.gateway.tools import make_tools
from runner.ports import Tool


def tool(name: str, **setup: JsonValue) -> Tool:
    """One new tool, made as a task's are."""
    return make_tools([name], {name: setup} if setup else {}, seed=0)[name]


async def ask(tool: Tool, **arguments: JsonValue) -> Any:
    """The result; an error fails the test."""
    answer = await tool.call(arguments)
    assert answer.error == ""
    return answer.result


async def error(tool: Tool, **arguments: JsonValue) -> str:
    """The error; a result fails the test."""
    answer: ToolAnswer = await tool.call(arguments)
    assert answer.result is None
    assert answer.error
    assert answer.error.isprintable()
    return answer.error
