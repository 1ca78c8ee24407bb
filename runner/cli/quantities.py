"""Reads sizes and durations as people write them; callbacks for options."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

Number = TypeVar("Number", int, float)


def size(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    """Bytes, from `512MiB`, `2G` or a number; raises BadParameter."""
    from runner.config import parse_size

    return None if text is None else _positive(text, parse_size)


def duration(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    """Seconds, from `300s`, `5m` or a number; raises BadParameter."""
    from runner.config import parse_duration

    return None if text is None else _positive(text, parse_duration)


def _positive(text: str, parse: Callable[[object], Number]) -> Number:
    try:
        number = parse(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}.") from error
    if number <= 0:
        raise click.BadParameter(f"{text!r}: must be more than 0.")
    return number
