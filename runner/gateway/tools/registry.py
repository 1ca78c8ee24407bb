"""Which tools there are, and how a task's own are made and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from runner.domain import ToolSetups
from runner.domain.text import one_line
from runner.errors import InvalidSuite
from runner.gateway.tools.calculator import Calculator
from runner.gateway.tools.clock import Clock, ClockSetup
from runner.gateway.tools.database import Database, DatabaseSetup
from runner.gateway.tools.document_search import DocumentSearch, DocumentSearchSetup
from runner.gateway.tools.flaky import FlakyTool
from runner.gateway.tools.key_value import KeyValue, KeyValueSetup
from runner.gateway.tools.setup import ToolSetup
from runner.gateway.tools.workspace import Workspace, WorkspaceSetup
from runner.ports import Tool

_SCOPE_VERSION = "1"
"""Changes when an answer of a cacheable tool does."""


@dataclass(frozen=True, kw_only=True)
class ToolKind:
    """One tool as tasks name it."""

    setup: type[ToolSetup]
    """What its settings in a task must fit."""
    make: Callable[[Any, int], Tool]
    """A tool for one attempt from a setup of that type and the run's seed.

    Raises ValueError, in one line, for a setup that no tool can be made of.
    """


TOOLS: dict[str, ToolKind] = {
    "calculator": ToolKind(setup=ToolSetup, make=lambda _setup, _seed: Calculator()),
    "clock": ToolKind(setup=ClockSetup, make=lambda setup, _seed: Clock(setup)),
    "database": ToolKind(setup=DatabaseSetup, make=lambda setup, _seed: Database(setup)),
    "document_search": ToolKind(
        setup=DocumentSearchSetup, make=lambda setup, _seed: DocumentSearch(setup)
    ),
    "key_value": ToolKind(setup=KeyValueSetup, make=lambda setup, _seed: KeyValue(setup)),
    "workspace": ToolKind(setup=WorkspaceSetup, make=lambda setup, _seed: Workspace(setup)),
}
"""All tools by name; one of your own is added by an assignment, before a run is planned."""

TOOL_NAMES = tuple(TOOLS)
"""Those that are shipped."""


def make_tools(names: Sequence[str], setups: ToolSetups, seed: int) -> dict[str, Tool]:
    """New tools for one attempt, by name, in the order of `names`; raises InvalidSuite."""
    _refuse_strays(names, setups)
    return {name: _make(name, setups, seed) for name in names}


def check_tools(names: Sequence[str], setups: ToolSetups) -> None:
    """Raises InvalidSuite, naming tool and field, where `make_tools` would."""
    make_tools(names, setups, seed=0)


def scope_of(names: Sequence[str], setups: ToolSetups, seed: int) -> str:
    """A digest of all that the answers of a task's tools depend on, beside the calls."""
    world = [_SCOPE_VERSION, list(names), {k: dict(v) for k, v in setups.items()}, seed]
    return hashlib.sha256(json.dumps(world, sort_keys=True).encode()).hexdigest()


def _refuse_strays(names: Sequence[str], setups: ToolSetups) -> None:
    for name in names:
        if name not in TOOLS:
            raise InvalidSuite(
                f"there is no tool {name!r}", remedy=f"tools: {', '.join(sorted(TOOLS))}"
            )
    if len(set(names)) < len(names):
        raise InvalidSuite("tools names a tool twice", remedy="name each tool once")
    for name in setups:
        if name not in names:
            raise InvalidSuite(
                f"tool_setups.{one_line(name)} is for a tool that the task does not offer",
                remedy=f"add {name!r} to tools, or remove its setup",
            )


def _make(name: str, setups: ToolSetups, seed: int) -> Tool:
    kind = TOOLS[name]
    try:
        setup = kind.setup.model_validate(setups.get(name, {}))
        tool = kind.make(setup, seed)
    except ValidationError as invalid:
        raise _invalid_setup(name, invalid) from None
    except ValueError as error:
        problem = one_line(f"tool_setups.{name}: {error}")
        raise InvalidSuite(problem, remedy="see docs/tools.md") from None
    return FlakyTool(tool, setup) if setup.flaky or setup.flaky_then else tool


def _invalid_setup(name: str, invalid: ValidationError) -> InvalidSuite:
    first = invalid.errors(include_url=False, include_input=False)[0]
    field = ".".join(["tool_setups", name, *map(str, first["loc"])])
    return InvalidSuite(one_line(f"{field}: {first['msg']}"), remedy="see docs/tools.md")
