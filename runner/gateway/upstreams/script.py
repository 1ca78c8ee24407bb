"""The rules of agenttrace/scripted: a TOML file, checked as a whole before any is used."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import re2
from pydantic import Field, JsonValue, ValidationError, model_validator

from runner.domain.base import Noun
from runner.domain.text import one_line
from runner.errors import InvalidConfiguration

SHIPPED = Path(__file__).with_name("rules.toml")
LONGEST_OUTPUT = 200_000
"""Of filler, in tokens."""

_PLACE = re.compile(r"\{([A-Za-z0-9_]*)\}")
_ALWAYS = frozenset({"text", "result", "match"})
_REMEDY = "see docs/gateway.md for what a rule may say"


class ScriptedCall(Noun):
    """A tool call that a rule makes."""

    name: str = Field(min_length=1, max_length=64)
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Texts in it are templates."""


class Rule(Noun):
    """When it holds (all that is said of it), and what it does."""

    match: str | None = None
    """A regular expression (RE2), searched in the last message's text."""
    tool_result: bool | None = None
    """Whether the last message is a tool's result."""
    offers: str | None = None
    """A tool that the request offers."""
    turn: int | None = Field(default=None, ge=1)
    """Which answer of the conversation this is, from 1."""

    reply: str | None = None
    """A template: `{text}`, `{result}`, `{match}`, and the groups of `match`."""
    tool_calls: tuple[ScriptedCall, ...] = ()
    output_tokens: int | None = Field(default=None, ge=1, le=LONGEST_OUTPUT)
    """A reply of exactly so many tokens, in place of `reply`."""
    status: int | None = Field(default=None, ge=400, le=599)
    """The provider is in trouble."""
    retry_after_seconds: float | None = Field(default=None, ge=0)
    times: int | None = Field(default=None, ge=1)
    """How often the rule holds at most, in all calls of one upstream: an attempt has its own."""
    chunk_count: int = Field(default=8, ge=1, le=10_000)
    """Into how many pieces a streamed reply is cut."""
    break_after_chunks: int | None = Field(default=None, ge=0)
    """The stream breaks off after so many pieces; an answer that is no stream, at once."""
    usage: bool = True
    """Whether the answer tells its usage."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Rule:
        said = [self.reply is not None, self.output_tokens is not None, self.status is not None]
        if sum(said) > 1:
            raise ValueError("give one of reply, output_tokens and status")
        if not any(said) and not self.tool_calls:
            raise ValueError("says neither reply, tool_calls, output_tokens nor status")
        unknown = self._places() - self._known_places()
        if unknown:
            raise ValueError(f"there is no {{{min(unknown)}}} here")
        return self

    @cached_property
    def pattern(self) -> Any:
        """`match`, compiled; None where there is none."""
        return None if self.match is None else _compiled(self.match)

    def _places(self) -> set[str]:
        calls = [text for call in self.tool_calls for text in _texts(call.arguments)]
        return {place for text in [self.reply or "", *calls] for place in _PLACE.findall(text)}

    def _known_places(self) -> set[str]:
        if self.match is None:
            return set(_ALWAYS)
        try:
            pattern = self.pattern
        except re2.error as error:
            raise ValueError(f"match is no regular expression: {one_line(str(error))}") from None
        return {*_ALWAYS, *pattern.groupindex, *map(str, range(pattern.groups + 1))}


class Script(Noun):
    """Rules; the first that holds answers."""

    rule: tuple[Rule, ...] = Field(min_length=1)


def load_script(path: Path | None = None) -> Script:
    """The script of that file; None: the one that is shipped.

    Raises InvalidConfiguration, naming the file and the rule.
    """
    path = SHIPPED if path is None else path
    try:
        return Script.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise _invalid(path, f"cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _invalid(path, f"is not TOML: {one_line(str(error))}") from error
    except ValidationError as error:
        raise _invalid(path, _first(error)) from None


def filled(template: str, values: Mapping[str, str]) -> str:
    """`template` with its places filled; a place that nothing fills is empty."""
    return _PLACE.sub(lambda place: values.get(place[1], ""), template)


def filled_all(value: JsonValue, values: Mapping[str, str]) -> JsonValue:
    """The same for every text in `value`."""
    if isinstance(value, str):
        return filled(value, values)
    if isinstance(value, list):
        return [filled_all(item, values) for item in value]
    if isinstance(value, dict):
        return {name: filled_all(item, values) for name, item in value.items()}
    return value


def _texts(value: JsonValue) -> list[str]:
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in items for text in _texts(item)]


def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def _first(error: ValidationError) -> str:
    """The first flaw, in the file's own terms."""
    flaw = error.errors(include_url=False, include_context=False)[0]
    place = list(flaw["loc"])
    where = "the script"
    if len(place) > 1 and isinstance(place[1], int):
        where, place = f"rule {place[1] + 1}", place[2:]
    dotted = ".".join(map(str, place))
    problem = flaw["msg"].removeprefix("Value error, ")
    return one_line(f"{where}: {dotted}: {problem}" if dotted else f"{where}: {problem}")


def _invalid(path: Path, problem: str) -> InvalidConfiguration:
    return InvalidConfiguration(f"gateway.script: {path}: {problem}", remedy=_REMEDY)
