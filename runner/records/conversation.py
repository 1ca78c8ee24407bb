"""What was said in an exchange with a model, the same form for each API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from runner.domain.base import Noun
from runner.domain.gateway import Api
from runner.records.exchanges import RecordedExchange

_TEXT_PARTS = ("text", "input_text", "output_text", "refusal")
_OTHER_ROLES = {"developer": "system", "function": "tool"}


class AskedTool(Noun):
    """A call that a model asked for."""

    call_id: str = ""
    name: str = ""
    arguments: str = ""
    """JSON, if the model keeps to its form."""


class Turn(Noun):
    """One message; every word of it is hostile."""

    role: str
    """system, user, assistant or tool; or what else stood there."""
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[AskedTool, ...] = ()
    answers: str = ""
    """Of a tool's message: the id of the call that it answers."""


def told(exchange: RecordedExchange) -> tuple[Turn, ...]:
    """The messages of a request."""
    body = exchange.body
    match exchange.api:
        case Api.CHAT:
            return tuple(map(chat_turn, objects(body.get("messages"))))
        case Api.MESSAGES:
            return (*_instructions(body.get("system")), *_anthropic_turns(body))
        case Api.RESPONSES:
            return (*_instructions(body.get("instructions")), *item_turns(body.get("input")))
        case Api.EMBEDDINGS:
            return tuple(Turn(role="user", text=text_of(each)) for each in _inputs(body))
        case _:
            return ()


def chat_turn(message: dict[str, Any]) -> Turn:
    """A message of the chat API, told or said."""
    return Turn(
        role=_role(message),
        text=text_of(message.get("content")) or text_of(message.get("refusal")),
        reasoning=text_of(message.get("reasoning_content")),
        tool_calls=tuple(map(_chat_call, objects(message.get("tool_calls")))),
        answers=text_of(message.get("tool_call_id")),
    )


def _chat_call(call: dict[str, Any]) -> AskedTool:
    function = first_object(call.get("function"), call.get("custom"))
    return AskedTool(
        call_id=text_of(call.get("id")),
        name=text_of(function.get("name")),
        arguments=json_text(function.get("arguments", function.get("input", ""))),
    )


def block_turns(role: str, content: Any) -> Iterator[Turn]:
    """A message of the Anthropic API, told or said: results of tools stand for themselves."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else objects(content)
    for block in blocks:
        if block.get("type") == "tool_result":
            yield Turn(
                role="tool",
                text=text_of(block.get("content")),
                answers=text_of(block.get("tool_use_id")),
            )
    rest = [block for block in blocks if block.get("type") != "tool_result"]
    if rest:
        yield Turn(
            role=role,
            text="\n".join(text_of(each.get("text")) for each in _of_type(rest, "text")),
            reasoning="\n".join(text_of(b.get("thinking")) for b in _of_type(rest, "thinking")),
            tool_calls=tuple(map(_used_tool, _of_type(rest, "tool_use"))),
        )


def _anthropic_turns(body: dict[str, Any]) -> Iterator[Turn]:
    for message in objects(body.get("messages")):
        yield from block_turns(_role(message), message.get("content"))


def _used_tool(block: dict[str, Any]) -> AskedTool:
    return AskedTool(
        call_id=text_of(block.get("id")),
        name=text_of(block.get("name")),
        arguments=json_text(block.get("input", "")),
    )


def item_turns(items: Any) -> Iterator[Turn]:
    """Items of the responses API, told or said."""
    if isinstance(items, str):
        yield Turn(role="user", text=items)
        return
    for item in objects(items):
        match item.get("type", "message"):
            case "message":
                yield Turn(role=_role(item), text=text_of(item.get("content")))
            case "function_call":
                yield Turn(role="assistant", tool_calls=(_called_function(item),))
            case "function_call_output":
                text, answers = text_of(item.get("output")), text_of(item.get("call_id"))
                yield Turn(role="tool", text=text, answers=answers)
            case "reasoning":
                yield Turn(role="assistant", reasoning=text_of(item.get("summary")))
            case _:
                continue


def _called_function(item: dict[str, Any]) -> AskedTool:
    return AskedTool(
        call_id=text_of(item.get("call_id")),
        name=text_of(item.get("name")),
        arguments=json_text(item.get("arguments", "")),
    )


def _instructions(given: Any) -> Iterator[Turn]:
    if text := text_of(given):
        yield Turn(role="system", text=text)


def _inputs(body: dict[str, Any]) -> list[Any]:
    given = body.get("input")
    return given if isinstance(given, list) else [given]


# -- hostile JSON --------------------------------------------------------------------------------


def text_of(value: Any) -> str:
    """The text in a content of any of the forms in use; a picture is named by its type."""
    match value:
        case str():
            return value
        case list():
            return "\n".join(filter(None, map(_part_text, value)))
        case None:
            return ""
        case _:
            return json_text(value)


def _part_text(part: Any) -> str:
    if not isinstance(part, dict):
        return text_of(part) if isinstance(part, str) else json_text(part)
    kind = part.get("type")
    if kind in _TEXT_PARTS or "text" in part or "refusal" in part:
        text = part.get("text", part.get("refusal"))
        return text if isinstance(text, str) else json_text(text)
    return f"[{kind}]"


def json_text(value: Any) -> str:
    """A text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def objects(value: Any) -> list[dict[str, Any]]:
    """The JSON objects in a list; none where it is no list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def first_object(*values: Any) -> dict[str, Any]:
    """The first that is an object; else an empty one."""
    return next((value for value in values if isinstance(value, dict)), {})


def _of_type(blocks: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [block for block in blocks if block.get("type") == kind]


def _role(message: dict[str, Any]) -> str:
    role = text_of(message.get("role")) or "user"
    return _OTHER_ROLES.get(role, role)
