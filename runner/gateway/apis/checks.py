"""Small checks of a request's fields; each raises Refused, naming the field."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.domain.text import one_line
from runner.gateway.calls import Refused

Fields = Mapping[str, Any]

MAX_MODEL_NAME = 256
MOST_TOKENS = 100_000_000
"""More than any model can write; what is beyond makes no sense."""

IMAGE_TOKENS = 4_800
"""Assumed of an image, since what a provider makes of one depends on the model."""
CHARACTERS_PER_FILE_TOKEN = 4
"""Of a file's base64: what a page of a PDF takes is near it."""
CHARACTERS_PER_AUDIO_TOKEN = 200
"""Of a recording's base64, at 12 kbit/s and above."""


@dataclass
class Gathered:
    """What a provider will count of a request, gathered while it is checked."""

    texts: list[str] = field(default_factory=list)
    tokens_besides: int = 0
    tokens_audio: int = 0
    """Of those besides."""

    def add(self, text: Any) -> None:
        """A text that the model reads; anything else is not one."""
        if isinstance(text, str) and text:
            self.texts.append(text)

    def add_json(self, value: Any) -> None:
        """A definition or arguments, which the model reads as JSON."""
        if value is not None:
            self.texts.append(compact(value))

    def add_file(self, base64: str) -> None:
        """A document, whose pages are read."""
        self.tokens_besides += 1 + len(base64) // CHARACTERS_PER_FILE_TOKEN

    def add_audio(self, base64: str) -> None:
        """A recording."""
        tokens = 1 + len(base64) // CHARACTERS_PER_AUDIO_TOKEN
        self.tokens_besides += tokens
        self.tokens_audio += tokens


def invalid(where: str, problem: str) -> Refused:
    """A field that has not the form of its API."""
    return Refused(400, "invalid_request", f"{one_line(where, 120)}: {problem}")


def unsupported(where: str, reason: str = "is not supported by this gateway") -> Refused:
    """A field that is not passed on."""
    return Refused(400, "unsupported_parameter", f"{one_line(where, 120)}: {reason}")


def reaches_network(where: str, what: str) -> Refused:
    """A field that would have the provider fetch something, or run it."""
    reason = f"{what} would reach a network, and this agent has none"
    return Refused(400, "reaches_network", f"{one_line(where, 120)}: {reason}")


def only(fields: Fields, allowed: Collection[str], where: str = "") -> None:
    """Refuses a field that is not allowed, since it may cost or reach something.

    A field that is null says nothing, where client libraries send back what they got.
    """
    for name, value in fields.items():
        if name not in allowed and not (where and value is None):
            raise unsupported(f"{where}.{name}" if where else name)


def table(value: Any, where: str) -> dict[str, Any]:
    """`value`, which has to be an object."""
    if not isinstance(value, dict):
        raise invalid(where, "is not an object")
    return value


def tables(value: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object of the list `value`, and its place."""
    if not isinstance(value, list):
        raise invalid(where, "is not a list")
    for number, item in enumerate(value):
        yield f"{where}[{number}]", table(item, f"{where}[{number}]")


def messages(body: Fields) -> list[tuple[str, dict[str, Any]]]:
    """Each message and its place; there has to be one."""
    found = list(tables(body.get("messages"), "messages"))
    if not found:
        raise invalid("messages", "is empty")
    return found


def text(value: Any, where: str) -> str:
    """`value`, which has to be a string."""
    if not isinstance(value, str):
        raise invalid(where, "is not a string")
    return value


def model_of(body: Fields) -> str:
    """The model that is asked for."""
    name = text(body.get("model"), "model")
    if not name or len(name) > MAX_MODEL_NAME or not name.isprintable():
        raise invalid("model", f"is not a name of 1 to {MAX_MODEL_NAME} printable characters")
    return name


def flag(body: Fields, name: str) -> bool:
    """A field that is true or false; null and absent: false."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise invalid(name, "is not true or false")
    return bool(value)


def count(body: Fields, name: str, *, most: int = MOST_TOKENS) -> int | None:
    """A field that is a whole number from 1 on; None: null or absent."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise invalid(name, f"is not a whole number from 1 to {most}")
    return value


def refuse_given(body: Fields, names: Collection[str]) -> None:
    """Refuses fields that are there and say something; null and false say nothing."""
    for name in names:
        if body.get(name) not in (None, False):
            raise unsupported(name)


def is_deterministic(body: Fields) -> bool:
    """Temperature 0, or a seed."""
    temperature = body.get("temperature")
    cold = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    return (cold and temperature == 0) or isinstance(body.get("seed"), int)


def data_url(value: Any, where: str, what: str) -> str:
    """A `data:` URL; any other would be fetched by the provider."""
    url = text(value, where)
    if not url.startswith("data:"):
        raise reaches_network(where, f"{what} by its address")
    return url


def contents(
    value: Any, where: str, gathered: Gathered, read: Callable[[Fields, str, Gathered], None]
) -> None:
    """A text, or a list of parts, each of which `read` checks; null says nothing."""
    if value is None or isinstance(value, str):
        gathered.add(value)
        return
    for place, part in tables(value, where):
        read(part, place, gathered)


def audio(part: Fields, where: str, gathered: Gathered) -> None:
    """A part of OpenAI's APIs that is a recording."""
    only(part, {"type", "input_audio"}, where)
    where = f"{where}.input_audio"
    recording = table(part.get("input_audio"), where)
    only(recording, {"data", "format"}, where)
    gathered.add_audio(text(recording.get("data"), f"{where}.data"))


def own_tool(tool: Fields, where: str) -> None:
    """A tool of OpenAI's APIs that the agent runs itself; any other is run by the provider."""
    if tool.get("type") not in ("function", "custom"):
        raise reaches_network(f"{where}.type", "a tool that the provider runs")


def compact(value: Any) -> str:
    """JSON without spaces, as definitions and arguments are counted."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
