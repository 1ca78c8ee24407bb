"""The settings that a run was begun with, of those that decide what its agent could reach."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runner.config import GatewaySettings, RunSettings, Settings
from runner.records import layout

_GATEWAY = "gateway."
_BUDGETS = ("max_tokens", "max_cost_usd")
_ASKED_FOR = ("suite", "parallelism", "repeats")
"""What a replay does is as the run's lock has it: its own record is to say the same."""


def resumed_settings(settings: Settings, run: Path) -> Settings:
    """The agent may call what it could before; where those models are, is as set now.

    The run has the budget that it was begun with, unless there is another now: nobody who goes on
    with it shall spend more by leaving an option out.
    """
    models = gateway_begun_with(settings.gateway, run).models
    missing = [name for name in _BUDGETS if not getattr(settings.run, name)]
    budget = _run_begun_with(settings.run, run, missing)
    return _with_gateway(settings, {"models": models}).model_copy(update={"run": budget})


def replay_settings(settings: Settings, run: Path) -> Settings:
    """As the run had it, prices too, but for caches, spending and rules: the recording answers."""
    begun = gateway_begun_with(settings.gateway, run)
    now = {
        "enabled": True,
        "cache_models": False,
        "cache_tools": False,
        "script": "",
        "record": settings.gateway.record,
        "trace_messages": settings.gateway.trace_messages,
    }
    alone = settings.model_copy(update={"gateway": begun})
    spending = {"reuse": False, "max_tokens": 0, "max_cost_usd": 0.0}
    asked = _run_begun_with(settings.run, run, _ASKED_FOR)
    return _with_gateway(alone, now).model_copy(update={"run": asked.model_copy(update=spending)})


def gateway_begun_with(given: GatewaySettings, run: Path) -> GatewaySettings:
    """As the `config.json` of `run` has it; `given` for what it does not have, or is damaged."""
    recorded = _recorded(run / layout.CONFIG)
    known = {
        name: recorded[_GATEWAY + name]
        for name in GatewaySettings.model_fields
        if _GATEWAY + name in recorded
    }
    try:
        return GatewaySettings.model_validate(given.model_dump(mode="json") | known)
    except ValidationError:
        return given


def _run_begun_with(given: RunSettings, run: Path, names: Sequence[str]) -> RunSettings:
    """`given`, but for those of `names` that the run has recorded; unless they are damaged."""
    recorded = _recorded(run / layout.CONFIG)
    known = {name: recorded[f"run.{name}"] for name in names if recorded.get(f"run.{name}")}
    try:
        return RunSettings.model_validate(given.model_dump() | known)
    except ValidationError:
        return given


def _recorded(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _with_gateway(settings: Settings, changes: dict[str, object]) -> Settings:
    gateway = settings.gateway.model_copy(update=changes)
    return settings.model_copy(update={"gateway": gateway})
