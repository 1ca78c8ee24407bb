"""What an agent says it used, beside what was measured: a difference is flagged, and no more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from runner.domain import ResourceUsage
from runner.domain.text import one_line

COST_TOLERANCE = 0.01
"""Relative: an agent may round, and know other prices."""

_NAMES: Mapping[str, str] = {
    "input_tokens": "tokens_input",
    "prompt_tokens": "tokens_input",
    "tokens_input": "tokens_input",
    "output_tokens": "tokens_output",
    "completion_tokens": "tokens_output",
    "tokens_output": "tokens_output",
    "tokens": "tokens_total",
    "total_tokens": "tokens_total",
    "tokens_total": "tokens_total",
    "api_calls": "api_calls_count",
    "api_calls_count": "api_calls_count",
    "model_calls": "api_calls_count",
    "tool_calls": "tool_calls_count",
    "tool_calls_count": "tool_calls_count",
    "cost": "cost_usd",
    "cost_usd": "cost_usd",
    "total_cost_usd": "cost_usd",
}
"""The names under which agents report what we measure, and ours."""


def mismatches(claims: Mapping[str, int | float | str], measured: ResourceUsage) -> tuple[str, ...]:
    """One line for each claim that the measured figures contradict; hostile bytes are escaped."""
    return tuple(_mismatches(claims, measured))


def _mismatches(claims: Mapping[str, int | float | str], measured: ResourceUsage) -> Iterator[str]:
    for name, claimed in claims.items():
        ours = _NAMES.get(name)
        if ours is None:
            continue
        found = getattr(measured, ours)
        if found is not None and not _agree(claimed, found, ours):
            yield f"{name}: {one_line(str(claimed), 40)} claimed, {found} measured"


def _agree(claimed: float | str, found: float, ours: str) -> bool:
    if isinstance(claimed, str):
        return False
    tolerance = COST_TOLERANCE * found if ours == "cost_usd" else 0
    return abs(claimed - found) <= tolerance
