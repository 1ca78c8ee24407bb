"""What `run` and `submit` share: how the agent in an image is spoken to."""

from __future__ import annotations

import shlex
from typing import Any

import click

from runner.cli.invocation import Command


def _split(_ctx: click.Context, _parameter: click.Parameter, line: str | None) -> tuple[str, ...]:
    """A command line's words, as a shell would split them; raises BadParameter."""
    try:
        return tuple(shlex.split(line or ""))
    except ValueError as error:
        raise click.BadParameter(f"{line!r}: {error}.") from error


def image_details(command: Command) -> Command:
    """Adds `--interface`, `--command` and `--port`, which belong to `--image`."""
    interface = click.option(
        "--interface",
        type=click.Choice(["stdio", "http"]),
        help="How the agent in --image is spoken to.  [default: stdio]",
    )
    line = click.option(
        "--command",
        metavar="LINE",
        callback=_split,
        help="The agent's process in --image, as a shell would split it; else the image's own.",
    )
    port = click.option(
        "--port", type=click.IntRange(1, 65535), help="Where --interface http listens."
    )
    return interface(line(port(command)))


def check_target(target: str | None, name: str, options: dict[str, Any]) -> None:
    """One thing to evaluate, and nothing said of an image where there is none.

    `name` is what the command calls its argument. Raises click.UsageError.
    """
    if bool(target) == bool(options["image"]):
        raise click.UsageError(f"give either {name} or --image REF.")
    for detail in ("interface", "command", "port"):
        if options[detail] and not options["image"]:
            raise click.UsageError(f"--{detail} belongs to --image; a submission.toml has its own.")
    if options["port"] is not None and options["interface"] != "http":
        raise click.UsageError("--port belongs to --interface http.")


def interface_of(options: dict[str, Any]) -> str | None:
    """That of the agent in `--image`; None where there is no image."""
    return (options["interface"] or "stdio") if options["image"] else None
