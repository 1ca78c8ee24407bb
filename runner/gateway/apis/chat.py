"""OpenAI's chat completions: what may be asked, and what goes upstream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.domain import Api
from runner.gateway.apis import checks
from runner.gateway.apis.checks import Fields, Gathered
from runner.gateway.calls import ModelRequest

MAX_CHOICES = 128

_FIELDS = frozenset(
    {"model", "messages", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens"}
    | {"temperature", "top_p", "top_k", "min_p", "seed", "stop", "logit_bias", "logprobs"}
    | {"top_logprobs", "frequency_penalty", "presence_penalty", "repetition_penalty"}
    | {"response_format", "tools", "tool_choice", "parallel_tool_calls", "functions"}
    | {"function_call", "reasoning_effort", "verbosity", "user", "safety_identifier"}
    | {"prompt_cache_key", "metadata", "store", "service_tier", "modalities"}
)
_MESSAGE_FIELDS = frozenset(
    {"role", "content", "name", "tool_calls", "tool_call_id", "function_call", "refusal"}
    | {"annotations", "reasoning", "reasoning_content"}
)
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_TIERS = (None, "auto", "default")
_LIMITS = ("max_completion_tokens", "max_tokens")


def parse(body: dict[str, Any], headers: Mapping[str, str]) -> ModelRequest:  # noqa: ARG001 - the APIs are parsed alike
    """The checked request; raises Refused."""
    checks.only(body, _FIELDS)
    _check_plain_fields(body)
    gathered = Gathered()
    messages = checks.messages(body)
    for where, message in messages:
        _message(message, where, gathered)
    _tools(body, gathered)
    gathered.add_json(body.get("response_format"))
    streamed = checks.flag(body, "stream")
    limits = [limit for name in _LIMITS if (limit := checks.count(body, name)) is not None]
    return ModelRequest(
        api=Api.CHAT,
        model=checks.model_of(body),
        body=body,
        streamed=streamed,
        wants_usage=_wants_usage(body),
        texts=gathered.texts,
        messages=len(messages),
        # Of two limits a server may know either.
        max_output_tokens=max(limits, default=None),
        choices=checks.count(body, "n", most=MAX_CHOICES) or 1,
        deterministic=checks.is_deterministic(body),
        tokens_besides=gathered.tokens_besides,
        tokens_audio=gathered.tokens_audio,
    )


def prepared(body: Fields, *, streamed: bool) -> dict[str, Any]:
    """What goes upstream: a stream tells its usage at the end, whether or not that was asked."""
    if not streamed:
        return dict(body)
    options = body.get("stream_options") or {}
    return {**body, "stream_options": {**options, "include_usage": True}}


def with_limit(body: Fields, tokens: int, provider: str) -> dict[str, Any]:
    """At most `tokens` for each choice, by the name that the agent used.

    Where it used none: OpenAI's newer models know `max_completion_tokens` alone, and most servers
    that speak its API `max_tokens`.
    """
    used = [name for name in _LIMITS if body.get(name) is not None]
    names = used or [_LIMITS[0] if provider == "openai" else _LIMITS[1]]
    return {**body, **{name: min(tokens, body.get(name) or tokens) for name in names}}


def _check_plain_fields(body: Fields) -> None:
    checks.refuse_given(body, ["store"])
    if body.get("service_tier") not in _TIERS:
        raise checks.unsupported("service_tier", "is 'auto' or 'default' here")
    if body.get("modalities") not in (None, ["text"]):
        raise checks.unsupported("modalities", "is ['text'] here")


def _wants_usage(body: Fields) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    options = checks.table(options, "stream_options")
    checks.only(options, {"include_usage", "include_obfuscation"}, "stream_options")
    return options.get("include_usage") is True


def _message(message: Fields, where: str, gathered: Gathered) -> None:
    checks.only(message, _MESSAGE_FIELDS, where)
    if message.get("role") not in _ROLES:
        raise checks.invalid(f"{where}.role", f"is none of {', '.join(_ROLES)}")
    for name in ("name", "refusal", "reasoning", "reasoning_content"):
        gathered.add(message.get(name))
    checks.contents(message.get("content"), f"{where}.content", gathered, _part)
    if message.get("tool_calls") is not None:
        for place, call in checks.tables(message["tool_calls"], f"{where}.tool_calls"):
            _tool_call(call, place, gathered)
    gathered.add_json(message.get("function_call"))


def _part(part: Fields, where: str, gathered: Gathered) -> None:
    match part.get("type"):
        case "text" | "refusal" as kind:
            checks.only(part, {"type", kind}, where)
            gathered.add(checks.text(part.get(kind), f"{where}.{kind}"))
        case "image_url":
            checks.only(part, {"type", "image_url"}, where)
            image = checks.table(part.get("image_url"), f"{where}.image_url")
            checks.only(image, {"url", "detail"}, f"{where}.image_url")
            checks.data_url(image.get("url"), f"{where}.image_url.url", "an image")
            gathered.tokens_besides += checks.IMAGE_TOKENS
        case "file":
            checks.only(part, {"type", "file"}, where)
            _file(checks.table(part.get("file"), f"{where}.file"), f"{where}.file", gathered)
        case "input_audio":
            checks.audio(part, where, gathered)
        case _:
            raise checks.unsupported(f"{where}.type", "is none of the kinds that are passed on")


def _file(file: Fields, where: str, gathered: Gathered) -> None:
    if file.get("file_id") is not None:
        raise checks.reaches_network(f"{where}.file_id", "a file kept by the provider")
    checks.only(file, {"file_data", "filename"}, where)
    gathered.add(file.get("filename"))
    gathered.add_file(checks.data_url(file.get("file_data"), f"{where}.file_data", "a file"))


def _tool_call(call: Fields, where: str, gathered: Gathered) -> None:
    checks.only(call, {"id", "type", "function", "custom", "index"}, where)
    for kind, content in (("function", "arguments"), ("custom", "input")):
        if call.get(kind) is not None:
            called = checks.table(call[kind], f"{where}.{kind}")
            checks.only(called, {"name", content}, f"{where}.{kind}")
            gathered.add(called.get("name"))
            gathered.add(called.get(content))


def _tools(body: Fields, gathered: Gathered) -> None:
    if body.get("tools") is not None:
        for where, tool in checks.tables(body["tools"], "tools"):
            checks.own_tool(tool, where)
            kind = tool["type"]
            checks.only(tool, {"type", kind}, where)
            gathered.add_json(checks.table(tool.get(kind), f"{where}.{kind}"))
    if body.get("functions") is not None:
        for _, function in checks.tables(body["functions"], "functions"):
            gathered.add_json(function)
