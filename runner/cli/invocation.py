"""What the commands share: their common options, and the settings those lead to."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

    from runner.config import Loaded, Settings

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
    profile: str | None, flags: Mapping[str, object] | None = None, *, cwd: Path | None = None
) -> Loaded:
    """The settings of this command line, with logging set up as they say."""
    from runner.config import load_settings

    loaded = load_settings(flags or {}, cwd=cwd or Path.cwd(), environ=os.environ, profile=profile)
    _log_to_stderr(_level(loaded.settings))
    return loaded


def _level(settings: Settings) -> str:
    ctx = click.get_current_context(silent=True)
    invocation = ctx.find_object(Invocation) if ctx else None
    return "debug" if invocation and invocation.verbose else settings.log.level


def _log_to_stderr(level: str) -> None:
    """Our own loggers only: what libraries say below a warning is about their affairs."""
    import logging

    from runner.cli.failure import inert

    class InertFormatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return "\n".join(inert(line) for line in super().format(record).splitlines())

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(InertFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    ours = logging.getLogger("runner")
    ours.handlers[:] = [handler]
    ours.setLevel(level.upper())
    ours.propagate = False


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
