"""What a scripted model sees of a request, whichever API it came by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from runner.domain import Api
from runner.gateway.apis.readings import dict_of, dicts
from runner.gateway.calls import ModelRequest


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """The end of it, and what was offered."""

    text: str
    """Of the last message."""
    is_tool_result: bool
    turn: int
    """Which answer is asked for, from 1."""
    offers: frozenset[str]
    """Names of the tools."""

    @property
    def result(self) -> str:
        """The last message as a tool's result: the one value of a JSON object, or the text."""
        if not self.is_tool_result:
            return ""
        try:
            value = json.loads(self.text)
        except (ValueError, RecursionError):
            return self.text
        while isinstance(value, dict) and "result" in value:
            value = value["result"]
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def conversation_of(request: ModelRequest) -> Conversation:
    """What the scripted model sees of `request`."""
    body = request.body
    match request.api:
        case Api.CHAT:
            return _of_chat(body)
        case Api.RESPONSES:
            return _of_responses(body)
        case Api.MESSAGES:
            return _of_messages(body)
        case Api.EMBEDDINGS:
            return Conversation(text="", is_tool_result=False, turn=1, offers=frozenset())
        case _:
            assert_never(request.api)


def _of_chat(body: Mapping[str, Any]) -> Conversation:
    messages = list(dicts(body.get("messages")))
    last = messages[-1]
    tools = [*map(_named, dicts(body.get("tools"))), *dicts(body.get("functions"))]
    return Conversation(
        text=_text(last.get("content")),
        is_tool_result=last.get("role") in ("tool", "function"),
        turn=1 + sum(message.get("role") == "assistant" for message in messages),
        offers=_names(tools),
    )


def _of_responses(body: Mapping[str, Any]) -> Conversation:
    given = body.get("input")
    items = list(dicts(given)) or [{"role": "user", "content": given or ""}]
    last = items[-1]
    is_result = last.get("type") in ("function_call_output", "custom_tool_call_output")
    said = [_is_said(item) for item in items]
    answers = [now for now, before in zip(said, [False, *said[:-1]], strict=True) if not before]
    return Conversation(
        text=_text(last.get("output" if is_result else "content")),
        is_tool_result=is_result,
        turn=1 + sum(answers),
        offers=_names(dicts(body.get("tools"))),
    )


def _of_messages(body: Mapping[str, Any]) -> Conversation:
    messages = list(dicts(body.get("messages")))
    content = messages[-1].get("content")
    results = [block for block in dicts(content) if block.get("type") == "tool_result"]
    return Conversation(
        text=_text(results[-1].get("content") if results else content),
        is_tool_result=bool(results),
        turn=1 + sum(message.get("role") == "assistant" for message in messages),
        offers=_names(dicts(body.get("tools"))),
    )


def _is_said(item: Mapping[str, Any]) -> bool:
    """Whether it is part of an answer of the model: several items in a row are one answer."""
    kinds = ("function_call", "custom_tool_call", "reasoning")
    return item.get("role") == "assistant" or item.get("type") in kinds


def _named(tool: Mapping[str, Any]) -> dict[str, Any]:
    return dict_of(tool.get("function") or tool.get("custom"))


def _names(tools: Any) -> frozenset[str]:
    return frozenset(name for tool in tools if isinstance(name := tool.get("name"), str))


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    texts = [part.get("text") for part in dicts(content)]
    return "\n".join(text for text in texts if isinstance(text, str))
