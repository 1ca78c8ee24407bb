"""OpenAI's responses: what may be asked, and what goes upstream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.domain import Api
from runner.gateway.apis import checks
from runner.gateway.apis.checks import Fields, Gathered
from runner.gateway.calls import ModelRequest

_FIELDS = frozenset(
    {"model", "input", "instructions", "max_output_tokens", "max_tool_calls", "metadata"}
    | {"parallel_tool_calls", "reasoning", "temperature", "text", "tool_choice", "tools"}
    | {"top_p", "top_logprobs", "truncation", "user", "stream", "stream_options", "include"}
    | {"prompt_cache_key", "safety_identifier", "service_tier", "store"}
)
_KEPT_BY_THE_PROVIDER = ("previous_response_id", "conversation", "background", "store", "prompt")
_INCLUDABLE = ("reasoning.encrypted_content", "message.output_text.logprobs")
_TIERS = (None, "auto", "default")
_LIMIT = "max_output_tokens"

_ITEMS: Mapping[str, tuple[str, ...]] = {
    "function_call": ("name", "arguments", "namespace"),
    "custom_tool_call": ("name", "input"),
    "function_call_output": ("output",),
    "custom_tool_call_output": ("output",),
    "reasoning": ("summary", "content", "encrypted_content"),
    "message": ("content",),
}
"""The kinds of input items, and their fields that a model reads."""
_ITEM_FIELDS = frozenset({"type", "id", "call_id", "status", "role", "phase", "caller"})
_TOOL_FIELDS = frozenset(
    {"type", "name", "description", "parameters", "strict", "format", "output_schema"}
    | {"allowed_callers"}
)
_REASONING_FIELDS = frozenset({"effort", "summary", "generate_summary", "context"})
"""Without `mode`: some think in ways that the limit of output does not bound."""

_TEXTS: Mapping[str, str] = {
    "input_text": "text",
    "output_text": "text",
    "summary_text": "text",
    "reasoning_text": "text",
    "text": "text",
    "refusal": "refusal",
}
"""The kinds of parts that are texts, and where they have it."""


def parse(body: dict[str, Any], headers: Mapping[str, str]) -> ModelRequest:  # noqa: ARG001 - the APIs are parsed alike
    """The checked request; raises Refused."""
    checks.refuse_given(body, _KEPT_BY_THE_PROVIDER)
    checks.only(body, _FIELDS.union(_KEPT_BY_THE_PROVIDER))
    _check_plain_fields(body)
    gathered = Gathered()
    gathered.add(body.get("instructions"))
    messages = _input(body.get("input"), gathered)
    _tools(body, gathered)
    gathered.add_json(body.get("text"))
    return ModelRequest(
        api=Api.RESPONSES,
        model=checks.model_of(body),
        body=body,
        streamed=checks.flag(body, "stream"),
        wants_usage=True,
        texts=gathered.texts,
        messages=messages + bool(body.get("instructions")),
        max_output_tokens=checks.count(body, _LIMIT),
        deterministic=checks.is_deterministic(body),
        tokens_besides=gathered.tokens_besides,
        tokens_audio=gathered.tokens_audio,
    )


def prepared(body: Fields, *, streamed: bool) -> dict[str, Any]:  # noqa: ARG001 - the APIs are prepared alike
    """What goes upstream: without `store` the provider would keep the answer."""
    said = {name: value for name, value in body.items() if name not in _KEPT_BY_THE_PROVIDER}
    return {**said, "store": False}


def with_limit(body: Fields, tokens: int, provider: str) -> dict[str, Any]:  # noqa: ARG001 - the APIs are limited alike
    """At most `tokens` of output, reasoning included."""
    return {**body, _LIMIT: min(tokens, body.get(_LIMIT) or tokens)}


def _check_plain_fields(body: Fields) -> None:
    if body.get("service_tier") not in _TIERS:
        raise checks.unsupported("service_tier", "is 'auto' or 'default' here")
    include = body.get("include")
    if include is not None and not isinstance(include, list):
        raise checks.invalid("include", "is not a list")
    for wanted in include or ():
        if wanted not in _INCLUDABLE:
            raise checks.unsupported("include", f"holds only {', '.join(_INCLUDABLE)} here")
    if body.get("instructions") is not None:
        checks.text(body["instructions"], "instructions")
    if body.get("reasoning") is not None:
        checks.only(checks.table(body["reasoning"], "reasoning"), _REASONING_FIELDS, "reasoning")
    if body.get("stream_options") is not None:
        options = checks.table(body["stream_options"], "stream_options")
        checks.only(options, {"include_obfuscation"}, "stream_options")


def _input(value: Any, gathered: Gathered) -> int:
    """How many messages it was."""
    if isinstance(value, str):
        gathered.add(value)
        return 1
    items = list(checks.tables(value, "input"))
    for where, item in items:
        _item(item, where, gathered)
    return len(items)


def _item(item: Fields, where: str, gathered: Gathered) -> None:
    kind = item.get("type") or "message"
    if not isinstance(kind, str) or kind not in _ITEMS:
        if kind == "item_reference":
            raise checks.reaches_network(where, "an item kept by the provider")
        raise checks.unsupported(f"{where}.type", "is none of the kinds that are passed on")
    checks.only(item, _ITEM_FIELDS.union(_ITEMS[kind]), where)
    for name in _ITEMS[kind]:
        checks.contents(item.get(name), f"{where}.{name}", gathered, _part)


def _part(part: Fields, where: str, gathered: Gathered) -> None:
    kind = part.get("type")
    if isinstance(kind, str) and kind in _TEXTS:
        checks.only(part, {"type", _TEXTS[kind], "annotations", "logprobs"}, where)
        gathered.add(checks.text(part.get(_TEXTS[kind]), f"{where}.{_TEXTS[kind]}"))
    elif kind == "input_image":
        _refuse_kept(part, where)
        checks.only(part, {"type", "image_url", "detail", "file_id"}, where)
        checks.data_url(part.get("image_url"), f"{where}.image_url", "an image")
        gathered.tokens_besides += checks.IMAGE_TOKENS
    elif kind == "input_file":
        _refuse_kept(part, where)
        checks.only(part, {"type", "file_data", "filename", "detail", "file_id", "file_url"}, where)
        gathered.add(part.get("filename"))
        gathered.add_file(checks.data_url(part.get("file_data"), f"{where}.file_data", "a file"))
    elif kind == "input_audio":
        checks.audio(part, where, gathered)
    else:
        raise checks.unsupported(f"{where}.type", "is none of the kinds that are passed on")


def _refuse_kept(part: Fields, where: str) -> None:
    for name in ("file_id", "file_url"):
        if part.get(name) is not None:
            raise checks.reaches_network(f"{where}.{name}", "a file that is not in the request")


def _tools(body: Fields, gathered: Gathered) -> None:
    if body.get("tools") is None:
        return
    for where, tool in checks.tables(body["tools"], "tools"):
        checks.own_tool(tool, where)
        checks.only(tool, _TOOL_FIELDS, where)
        if tool.get("allowed_callers") not in (None, ["direct"]):
            raise checks.reaches_network(f"{where}.allowed_callers", "code that the provider runs")
        checks.text(tool.get("name"), f"{where}.name")
        gathered.add_json({name: tool[name] for name in tool if name != "type"})
