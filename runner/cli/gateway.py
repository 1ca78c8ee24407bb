"""Options of the commands that run agents with models and tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

_SPENDING = (
    click.option(
        "--max-tokens",
        type=click.IntRange(min=1),
        help="Of all model calls together; the run stops there.  [setting run.max_tokens]",
    ),
    click.option(
        "--max-cost",
        type=click.FloatRange(min=0, min_open=True),
        metavar="USD",
        help="The same in US dollars.  [setting run.max_cost_usd]",
    ),
)

_MODEL = click.option(
    "--model",
    "models",
    multiple=True,
    metavar="GLOB",
    help="Let agents call these models (UPSTREAM/NAME); may be repeated.  [setting gateway.models]",
)

_CACHES = (
    click.option(
        "--reuse/--no-reuse",
        default=None,
        help="Take results of earlier runs where nothing that matters differs."
        "  [setting run.reuse]",
    ),
    click.option("--no-cache", is_flag=True, help="No cache of answers or results is used."),
)


def spending_options(command: Command) -> Command:
    """Adds `--max-tokens` and `--max-cost`."""
    return _with(command, _SPENDING)


def model_options(command: Command) -> Command:
    """Adds these and `--model`, `--reuse` and `--no-cache`."""
    return _with(command, (_MODEL, *_CACHES, *_SPENDING))


def pilot_options(command: Command) -> Command:
    """Adds `--model`, `--max-tokens` and `--max-cost`: a pilot takes no result from elsewhere."""
    return _with(command, (_MODEL, *_SPENDING))


def _with(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def gateway_flags(options: Mapping[str, Any]) -> dict[str, object]:
    """The settings that those of these options which were given lead to."""
    flags: dict[str, object] = {
        "gateway.models": list(options.get("models") or ()) or None,
        "run.reuse": options.get("reuse"),
        "run.max_tokens": options["max_tokens"],
        "run.max_cost_usd": options["max_cost"],
    }
    if options.get("no_cache"):
        off = ("run.reuse", "gateway.cache_models", "gateway.cache_tools")
        flags |= dict.fromkeys(off, False)
    return flags
