"""`agenttrace config`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runner.cli.invocation import (
    json_option,
    load,
    print_json,
    settings_options,
    stdout_console,
)

if TYPE_CHECKING:
    from runner.config import Loaded


@click.group(short_help="Show the settings that hold, and who set them.")
def config() -> None:
    """Show the settings that hold, and who set them."""


@config.command(
    epilog="""\b
Examples:
  agenttrace config show
  agenttrace config show --origin            which file or variable said so?
  agenttrace config show limits.memory_bytes
  agenttrace config show --profile competition --json
"""
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--origin", is_flag=True, help="Also print who set each value.")
@settings_options
@json_option
def show(names: tuple[str, ...], origin: bool, profile: str | None, as_json: bool) -> None:
    """Print every setting with its value, or those of a section, or the named ones.

    A flag wins over the environment (AGENTTRACE_SECTION__SETTING), that over ./agenttrace.toml,
    that over ~/.config/agenttrace/config.toml, that over the profile, and that over the defaults.
    """
    from runner.config import shown_settings

    loaded = load(profile)
    shown = shown_settings(loaded.settings)
    chosen = _choose(names, shown)
    if as_json:
        print_json(_as_data(loaded, chosen, origin=origin))
    elif origin:
        _print_table(loaded, {name: shown[name] for name in chosen})
    else:
        for name in chosen:
            click.echo(f"{name} = {shown[name]}")


def _choose(names: tuple[str, ...], shown: dict[str, str]) -> list[str]:
    from runner.config import unknown_setting

    for name in names:
        if name not in shown and not any(one.startswith(f"{name}.") for one in shown):
            raise unknown_setting(name, source="config show")
    return [
        one
        for one in shown
        if not names or any(one == name or one.startswith(f"{name}.") for name in names)
    ]


def _as_data(loaded: Loaded, names: list[str], *, origin: bool) -> dict[str, object]:
    """By dotted name: the value, or the value and its origin."""
    from runner.config import settings_as_data

    values = settings_as_data(loaded.settings)
    if not origin:
        return {name: values[name] for name in names}
    return {name: {"value": values[name], "origin": loaded.origins[name]} for name in names}


def _print_table(loaded: Loaded, shown: dict[str, str]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("SETTING", "VALUE", "ORIGIN"):
        table.add_column(heading, overflow="fold")
    for name, value in shown.items():
        origin = loaded.origins[name]
        style = "dim" if origin == "default" else ""
        table.add_row(name, Text(value), Text(origin, style=style))
    stdout_console().print(table)
