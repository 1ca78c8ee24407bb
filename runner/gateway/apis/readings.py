"""What each API's answers and events say: usage, texts, finish reasons; any may be damaged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runner.domain import TokenSource
from runner.domain.text import one_line
from runner.gateway.apis.checks import compact
from runner.gateway.calls import Usage

MOST_TOKENS = 1_000_000_000
LONGEST_REASON = 64
MOST_TEXTS = 1_024
"""Kept apart; beyond that they are counted as one."""

_Key = tuple[object, ...]


class Reading:
    """One answer, read by one API's rules; a subclass reads its events and its whole answers."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self._texts: dict[_Key, list[str]] = {}
        self._reasons: dict[int, str] = {}

    def event(self, event: dict[str, Any]) -> None:
        """One event of a stream."""
        raise NotImplementedError

    def whole(self, answer: dict[str, Any]) -> None:
        """An answer that is not streamed."""
        raise NotImplementedError

    @property
    def texts(self) -> list[str]:
        """One for each thing that was said, its pieces put together."""
        return ["".join(pieces) for pieces in self._texts.values()]

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """In the order of the choices."""
        return tuple(self._reasons[number] for number in sorted(self._reasons))

    def _say(self, key: _Key, text: object) -> None:
        if isinstance(text, str) and text:
            known = key in self._texts or len(self._texts) < MOST_TEXTS
            self._texts.setdefault(key if known else (), []).append(text)

    def _finish(self, choice: object, reason: object) -> None:
        number = index_of(choice)
        if isinstance(reason, str) and (number in self._reasons or len(self._reasons) < 128):
            self._reasons[number] = one_line(reason, LONGEST_REASON)

    def _use(self, tokens_input: object, tokens_output: object, **besides: object) -> None:
        """Notes a usage, if it is one."""
        taken, given = tokens_of(tokens_input), tokens_of(tokens_output)
        if taken is not None and given is not None:
            cached = {name: min(tokens_of(value) or 0, taken) for name, value in besides.items()}
            self.usage = Usage(
                tokens_input=taken, tokens_output=given, source=TokenSource.PROVIDER, **cached
            )


class ChatReading(Reading):
    """OpenAI's chat completions."""

    def event(self, event: dict[str, Any]) -> None:
        """See Reading."""
        self._choices(event, "delta")

    def whole(self, answer: dict[str, Any]) -> None:
        """See Reading."""
        self._choices(answer, "message")

    def _choices(self, answer: dict[str, Any], part: str) -> None:
        for choice in dicts(answer.get("choices")):
            number = index_of(choice.get("index"))
            self._message(number, dict_of(choice.get(part)))
            self._finish(number, choice.get("finish_reason"))
        usage = dict_of(answer.get("usage"))
        details = dict_of(usage.get("prompt_tokens_details"))
        self._use(
            usage.get("prompt_tokens"),
            usage.get("completion_tokens"),
            tokens_cached=details.get("cached_tokens"),
            tokens_cache_written=details.get("cache_write_tokens"),
            tokens_audio=details.get("audio_tokens"),
        )

    def _message(self, choice: int, message: dict[str, Any]) -> None:
        for name in ("content", "refusal", "reasoning", "reasoning_content"):
            self._say((choice, name), message.get(name))
        calls = dicts(message.get("tool_calls"))
        for place, call in enumerate([*calls, message]):
            kind = "call" if call is not message else "message"
            number = index_of(call.get("index", place))
            for name in ("function", "custom", "function_call"):
                called = dict_of(call.get(name))
                for field in ("name", "arguments", "input"):
                    self._say((choice, kind, number, field), called.get(field))


class EmbeddingsReading(Reading):
    """OpenAI's embeddings, which say nothing and finish for no reason."""

    def event(self, event: dict[str, Any]) -> None:
        """See Reading; they are never streamed."""

    def whole(self, answer: dict[str, Any]) -> None:
        """See Reading."""
        self._use(dict_of(answer.get("usage")).get("prompt_tokens"), 0)


class ResponsesReading(Reading):
    """OpenAI's responses."""

    def event(self, event: dict[str, Any]) -> None:
        """See Reading."""
        kind = event.get("type")
        if kind in ("response.completed", "response.incomplete", "response.failed"):
            self._end(dict_of(event.get("response")))
        elif isinstance(kind, str) and kind.endswith(".delta"):
            key = (kind, index_of(event.get("output_index")), index_of(event.get("content_index")))
            self._say(key, event.get("delta"))
        elif kind == "response.output_item.added":
            name = dict_of(event.get("item")).get("name")
            self._say(("name", index_of(event.get("output_index"))), name)

    def whole(self, answer: dict[str, Any]) -> None:
        """See Reading."""
        for number, item in enumerate(dicts(answer.get("output"))):
            for name in ("name", "arguments", "input"):
                self._say((number, name), item.get(name))
            parts = [*dicts(item.get("content")), *dicts(item.get("summary"))]
            for place, part in enumerate(parts):
                for name in ("text", "refusal"):
                    self._say((number, place, name), part.get(name))
        self._end(answer)

    def _end(self, answer: dict[str, Any]) -> None:
        reason = dict_of(answer.get("incomplete_details")).get("reason")
        self._finish(0, reason or answer.get("status"))
        usage = dict_of(answer.get("usage"))
        details = dict_of(usage.get("input_tokens_details"))
        self._use(
            usage.get("input_tokens"),
            usage.get("output_tokens"),
            tokens_cached=details.get("cached_tokens"),
            tokens_cache_written=details.get("cache_write_tokens"),
            tokens_audio=details.get("audio_tokens"),
        )


class MessagesReading(Reading):
    """Anthropic's messages: the input is told at a stream's start, the output at its end."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, Any] = {}

    def event(self, event: dict[str, Any]) -> None:
        """See Reading."""
        number = index_of(event.get("index"))
        match event.get("type"):
            case "message_start":
                self._usage(dict_of(dict_of(event.get("message")).get("usage")), final=False)
            case "content_block_start":
                self._say((number, "name"), dict_of(event.get("content_block")).get("name"))
            case "content_block_delta":
                delta = dict_of(event.get("delta"))
                for name in ("text", "thinking", "partial_json"):
                    self._say((number, name), delta.get(name))
            case "message_delta":
                self._finish(0, dict_of(event.get("delta")).get("stop_reason"))
                self._usage(dict_of(event.get("usage")), final=True)

    def whole(self, answer: dict[str, Any]) -> None:
        """See Reading."""
        for number, block in enumerate(dicts(answer.get("content"))):
            for name in ("text", "thinking", "name"):
                self._say((number, name), block.get(name))
            if isinstance(block.get("input"), dict):
                self._say((number, "input"), compact(block["input"]))
        self._finish(0, answer.get("stop_reason"))
        self._usage(dict_of(answer.get("usage")), final=True)

    def _usage(self, usage: dict[str, Any], *, final: bool) -> None:
        """What a stream's start says of the output is not what it will be."""
        self._said.update({name: value for name, value in usage.items() if value is not None})
        read = tokens_of(self._said.get("cache_read_input_tokens")) or 0
        written = tokens_of(self._said.get("cache_creation_input_tokens")) or 0
        fresh = tokens_of(self._said.get("input_tokens"))
        if final and fresh is not None:
            self._use(
                fresh + read + written,
                self._said.get("output_tokens"),
                tokens_cached=read,
                tokens_cache_written=written,
            )


def tokens_of(value: object) -> int | None:
    """A number of tokens; None: it is none that makes sense."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MOST_TOKENS else None


def index_of(value: object) -> int:
    """The place of a choice, a call or a block; 0 where it makes no sense."""
    return tokens_of(value) or 0


def dict_of(value: object) -> dict[str, Any]:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def dicts(value: object) -> Iterator[dict[str, Any]]:
    """The objects of a list."""
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, dict))
