"""A calculator for agents: one expression in, one number out."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from runner.domain import ToolAnswer, ToolDefinition
from runner.gateway.tools.arithmetic import LONGEST, CannotCompute, evaluate

_DEFINITION = ToolDefinition(
    name="calculator",
    description=(
        "Computes an arithmetic expression: numbers, + - * / // % **, parentheses, sqrt, abs, min, "
        "max, round, log, exp, sin, cos, tan, pi, e. Integers and fractions are exact."
    ),
    parameters={
        "type": "object",
        "properties": {
            "expression": {
                "type": "string",
                "maxLength": LONGEST,
                "description": "For example (2 + 3) * 4 ** 2",
            }
        },
        "required": ["expression"],
        "additionalProperties": False,
    },
)


class Calculator:
    """Arithmetic (`runner.ports.Tool`)."""

    @property
    def definition(self) -> ToolDefinition:
        """What the agent is told of it."""
        return _DEFINITION

    @property
    def cacheable(self) -> bool:
        """True: it has no state."""
        return True

    async def call(self, arguments: Mapping[str, JsonValue]) -> ToolAnswer:
        """The number, or why there is none."""
        try:
            return ToolAnswer(result=evaluate(str(arguments["expression"])))
        except CannotCompute as reason:
            return ToolAnswer(error=str(reason))
