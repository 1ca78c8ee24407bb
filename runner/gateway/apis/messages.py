"""Anthropic's messages: what may be asked, and what goes upstream."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runner.domain import Api
from runner.gateway.apis import checks
from runner.gateway.apis.checks import Fields, Gathered
from runner.gateway.calls import ModelRequest

TOOL_TOKENS = 800
"""Assumed of the instructions that the provider adds to a request with tools."""
LEAST_THINKING = 1_024
"""Anthropic's: a smaller budget is refused."""

_FIELDS = frozenset(
    {"model", "messages", "max_tokens", "system", "metadata", "stop_sequences", "stream"}
    | {"temperature", "top_k", "top_p", "tools", "tool_choice", "thinking", "output_config"}
    | {"service_tier", "cache_control"}
)
_ELSEWHERE = ("mcp_servers", "container")
_ROLES = ("user", "assistant", "system")
_TIERS = (None, "auto", "standard_only")
_LIMIT = "max_tokens"
_VERSION = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CLIENT_TOOL = re.compile(r"(bash|text_editor|computer|memory)_[0-9]{8}")
"""Defined by Anthropic, run by the agent itself."""
_BLOCK_EXTRAS = frozenset({"type", "cache_control", "citations"})


def parse(body: dict[str, Any], headers: Mapping[str, str]) -> ModelRequest:
    """The checked request; raises Refused."""
    for name in _ELSEWHERE:
        if body.get(name) not in (None, []):
            raise checks.reaches_network(name, "what the provider runs for an agent")
    checks.only(body, _FIELDS.union(_ELSEWHERE))
    _check_plain_fields(body)
    gathered = Gathered()
    checks.contents(body.get("system"), "system", gathered, _block)
    messages = checks.messages(body)
    for where, message in messages:
        _message(message, where, gathered)
    _tools(body, gathered)
    gathered.add_json(body.get("output_config"))
    limit = checks.count(body, _LIMIT)
    if limit is None:
        raise checks.invalid(_LIMIT, "is missing")
    return ModelRequest(
        api=Api.MESSAGES,
        model=checks.model_of(body),
        body=body,
        streamed=checks.flag(body, "stream"),
        wants_usage=True,
        texts=gathered.texts,
        messages=len(messages) + bool(body.get("system")),
        max_output_tokens=limit,
        deterministic=checks.is_deterministic(body),
        tokens_besides=gathered.tokens_besides,
        version=_version(headers),
    )


def prepared(body: Fields, *, streamed: bool) -> dict[str, Any]:  # noqa: ARG001 - the APIs are prepared alike
    """What goes upstream: the same, without what says nothing."""
    return {name: value for name, value in body.items() if name not in _ELSEWHERE}


def with_limit(body: Fields, tokens: int, provider: str) -> dict[str, Any]:  # noqa: ARG001 - the APIs are limited alike
    """At most `tokens` of output, and thinking within them, as the API wants it."""
    limit = min(tokens, body.get(_LIMIT) or tokens)
    limited = {**body, _LIMIT: limit}
    thinking = body.get("thinking")
    if isinstance(thinking, dict) and isinstance(thinking.get("budget_tokens"), int):
        budget = min(thinking["budget_tokens"], max(LEAST_THINKING, limit - 1))
        limited["thinking"] = {**thinking, "budget_tokens": budget}
    return limited


def _version(headers: Mapping[str, str]) -> str:
    named = {name.lower(): value for name, value in headers.items()}.get("anthropic-version", "")
    return named if _VERSION.fullmatch(named) else ""


def _check_plain_fields(body: Fields) -> None:
    if body.get("service_tier") not in _TIERS:
        raise checks.unsupported("service_tier", "is 'auto' or 'standard_only' here")
    _cache(body, "")
    thinking = body.get("thinking")
    if thinking is not None:
        thinking = checks.table(thinking, "thinking")
        checks.only(thinking, {"type", "budget_tokens", "display"}, "thinking")
        checks.count(thinking, "budget_tokens")
    if body.get("output_config") is not None:
        config = checks.table(body["output_config"], "output_config")
        checks.only(config, {"effort", "format"}, "output_config")


def _cache(fields: Fields, where: str) -> None:
    """Caching for an hour is dearer than all price tables say."""
    control = fields.get("cache_control")
    if isinstance(control, dict) and control.get("ttl") not in (None, "5m"):
        raise checks.unsupported(f"{where}.cache_control.ttl".lstrip("."), "is '5m' here")


def _message(message: Fields, where: str, gathered: Gathered) -> None:
    checks.only(message, {"role", "content"}, where)
    if message.get("role") not in _ROLES:
        raise checks.invalid(f"{where}.role", f"is none of {', '.join(_ROLES)}")
    checks.contents(message.get("content"), f"{where}.content", gathered, _block)


def _block(block: Fields, where: str, gathered: Gathered) -> None:
    _cache(block, where)
    match block.get("type"):
        case "text" | "thinking" as kind:
            checks.only(block, _BLOCK_EXTRAS | {kind, "signature"}, where)
            gathered.add(checks.text(block.get(kind), f"{where}.{kind}"))
        case "redacted_thinking":
            checks.only(block, _BLOCK_EXTRAS | {"data"}, where)
            gathered.add(block.get("data"))
        case "image" | "document" as kind:
            checks.only(block, _BLOCK_EXTRAS | {"source", "title", "context"}, where)
            gathered.add(block.get("title"))
            gathered.add(block.get("context"))
            source = checks.table(block.get("source"), f"{where}.source")
            _source(source, f"{where}.source", gathered, kind)
        case "tool_use":
            checks.only(block, _BLOCK_EXTRAS | {"id", "name", "input", "caller"}, where)
            gathered.add(block.get("name"))
            gathered.add_json(block.get("input"))
        case "tool_result":
            checks.only(block, _BLOCK_EXTRAS | {"tool_use_id", "content", "is_error"}, where)
            checks.contents(block.get("content"), f"{where}.content", gathered, _block)
        case "search_result":
            checks.only(block, _BLOCK_EXTRAS | {"source", "title", "content"}, where)
            gathered.add(block.get("source"))
            gathered.add(block.get("title"))
            checks.contents(block.get("content"), f"{where}.content", gathered, _block)
        case _:
            raise checks.unsupported(f"{where}.type", "is none of the kinds that are passed on")


def _source(source: Fields, where: str, gathered: Gathered, kind: str) -> None:
    checks_of = {"type", "media_type", "data", "content"}
    match source.get("type"):
        case "base64":
            checks.only(source, checks_of, where)
            data = checks.text(source.get("data"), f"{where}.data")
            if kind == "image":
                gathered.tokens_besides += checks.IMAGE_TOKENS
            else:
                gathered.add_file(data)
        case "text":
            checks.only(source, checks_of, where)
            gathered.add(source.get("data"))
        case "content":
            checks.only(source, checks_of, where)
            checks.contents(source.get("content"), f"{where}.content", gathered, _block)
        case "url" | "file":
            raise checks.reaches_network(f"{where}.type", "what is not in the request")
        case _:
            raise checks.unsupported(f"{where}.type", "is none of the kinds that are passed on")


def _tools(body: Fields, gathered: Gathered) -> None:
    if not body.get("tools"):
        return
    for where, tool in checks.tables(body["tools"], "tools"):
        kind = tool.get("type")
        if kind not in (None, "custom") and not _runs_here(kind):
            raise checks.reaches_network(f"{where}.type", "a tool that the provider runs")
        if tool.get("allowed_callers") not in (None, ["direct"]):
            raise checks.reaches_network(f"{where}.allowed_callers", "code that the provider runs")
        _cache(tool, where)
        gathered.add_json({name: tool[name] for name in tool if name != "cache_control"})
    gathered.tokens_besides += TOOL_TOKENS


def _runs_here(kind: Any) -> bool:
    return isinstance(kind, str) and _CLIENT_TOOL.fullmatch(kind) is not None
