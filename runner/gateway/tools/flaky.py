"""A tool that fails by a script, for tasks that test how an agent recovers from errors."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping
from typing import assert_never

from pydantic import JsonValue

from runner.domain import ToolAnswer, ToolDefinition
from runner.gateway.tools.setup import Fault, ToolSetup
from runner.ports import Tool

UNAVAILABLE = "the tool is unavailable at the moment; try again"
TIMED_OUT = "the tool did not answer in time; nothing was done"


class FlakyTool:
    """Another tool, some of whose calls fail (`runner.ports.Tool`)."""

    def __init__(self, tool: Tool, setup: ToolSetup) -> None:
        self._tool = tool
        self._setup = setup
        self._calls = itertools.count()

    @property
    def definition(self) -> ToolDefinition:
        """That of the tool itself: nothing tells that it is flaky."""
        return self._tool.definition

    @property
    def cacheable(self) -> bool:
        """False: an answer depends on how many calls came before."""
        return False

    async def call(self, arguments: Mapping[str, JsonValue]) -> ToolAnswer:
        """What the script says of this call."""
        match self._fault_of(next(self._calls)):
            case Fault.OK:
                return await self._tool.call(arguments)
            case Fault.ERROR:
                return ToolAnswer(error=UNAVAILABLE)
            case Fault.TIMEOUT:
                return ToolAnswer(error=TIMED_OUT)
            case Fault.MALFORMED:
                return _cut(await self._tool.call(arguments))
            case Fault.SLOW:
                await asyncio.sleep(self._setup.slow_seconds)
                return await self._tool.call(arguments)
            case fault:
                assert_never(fault)

    def _fault_of(self, index: int) -> Fault:
        script = self._setup.flaky
        if index < len(script):
            return script[index]
        return self._setup.flaky_then or script[-1]


def _cut(answer: ToolAnswer) -> ToolAnswer:
    """The first half of the result's JSON, as a text; an error stays one."""
    if answer.error:
        return answer
    text = json.dumps(answer.result, ensure_ascii=False)
    return ToolAnswer(result=text[: max(1, len(text) // 2)])
