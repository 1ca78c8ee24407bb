"""Definitions of tools in the forms that model APIs take, and answers in ours."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from runner.domain import ToolAnswer, ToolDefinition


def as_plain(definitions: Iterable[ToolDefinition]) -> list[dict[str, Any]]:
    """Name, description and parameters, as they are."""
    return [definition.model_dump(mode="json") for definition in definitions]


def as_openai(definitions: Iterable[ToolDefinition]) -> list[dict[str, Any]]:
    """For `tools` of a chat completion."""
    return [{"type": "function", "function": plain} for plain in as_plain(definitions)]


def as_anthropic(definitions: Iterable[ToolDefinition]) -> list[dict[str, Any]]:
    """For `tools` of a message."""
    return [
        {"name": each.name, "description": each.description, "input_schema": each.parameters}
        for each in definitions
    ]


def answer_body(answer: ToolAnswer) -> dict[str, Any]:
    """What `POST /tools/NAME` says, with status 200: `result` and `error`, one of them empty."""
    return answer.model_dump(mode="json")
