"""What the commands share: their common options, and the settings those lead to."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

    from runner.config import Loaded, LogSettings

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass
class Invocation:
    """One command line, as far as the edge needs to know it when the command has failed."""

    verbose: bool = False


def settings_options(command: Command) -> Command:
    """Adds `--profile` (an argument of the command) and `-v` (which is dealt with here)."""
    profile = click.option(
        "--profile",
        metavar="NAME",
        help="Defaults to use: laptop, shared-host or competition.",
    )
    verbose = click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=_note_verbose,
        help="Log everything to stderr, and print tracebacks.",
    )
    return profile(verbose(command))


def json_option(command: Command) -> Command:
    """Adds `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print data as JSON on stdout.")(
        command
    )


def _note_verbose(ctx: click.Context, _parameter: click.Parameter, given: bool) -> None:
    invocation = ctx.find_object(Invocation)
    if given and invocation is not None:
        invocation.verbose = True


def load(
    profile: str | None,
    flags: Mapping[str, object] | None = None,
    *,
    cwd: Path | None = None,
    service: bool = False,
) -> Loaded:
    """The settings of this command line, with logging set up as they say.

    `service`: whether the command is one whose stderr is collected by a machine.
    """
    from runner.config import load_settings

    loaded = load_settings(flags or {}, cwd=cwd or Path.cwd(), environ=os.environ, profile=profile)
    _log_to_stderr(loaded.settings.log, service=service)
    return loaded


def _log_to_stderr(settings: LogSettings, *, service: bool) -> None:
    from runner.telemetry import logs

    logs.configure(_level(settings), _format(settings, service=service), sys.stderr)


def _level(settings: LogSettings) -> Literal["debug", "info", "warning", "error"]:
    ctx = click.get_current_context(silent=True)
    invocation = ctx.find_object(Invocation) if ctx else None
    return "debug" if invocation and invocation.verbose else settings.level


def _format(settings: LogSettings, *, service: bool) -> Literal["text", "json"]:
    """A person reads a terminal, and what any command says that ends by itself."""
    if settings.format != "auto":
        return settings.format
    return "json" if service and not sys.stderr.isatty() else "text"


def print_json(data: object) -> None:
    """On stdout; ASCII alone, so that no character in it acts on a terminal."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=True, default=str))


def stdout_console() -> Console:
    """For results."""
    from runner.reporting import console_for

    return console_for(sys.stdout)


def stderr_console() -> Console:
    """For progress."""
    from runner.reporting import console_for

    return console_for(sys.stderr)
