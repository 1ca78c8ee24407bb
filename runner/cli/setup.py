"""`agenttrace setup`."""

from __future__ import annotations

import click

from runner.cli.invocation import json_option, load, print_json, settings_options

FIELDS = ("engine", "base_image", "shim_image", "shim_volume", "seconds")
"""Of the report, in the order of printing."""


@click.command(
    short_help="Prepare the engine and the images; safe to repeat.",
    epilog="""\b
Examples:
  agenttrace setup
  sudo agenttrace setup                      may install and start an engine
  DOCKER_HOST=tcp://10.0.0.5:2375 agenttrace setup
""",
)
@settings_options
@json_option
def setup(profile: str | None, as_json: bool) -> None:
    """Find a Docker engine, start or install one if need be, and make the images.

    Looks at DOCKER_HOST, docker's contexts and the default sockets. Where no engine is installed,
    and only as root on an apt system, it installs one, and says so. Then it makes the base image
    (pulled by name, or from the Debian archive where no registry answers), the shim image and its
    volume. What is there already is left alone: a second call takes a second or two.
    """
    from runner import bootstrap
    from runner.cli.steps import steps

    settings = load(profile).settings
    with steps() as say:
        report = bootstrap.set_up(settings, say)
    fields = {name: getattr(report, name) for name in FIELDS}
    if as_json:
        print_json(fields)
        return
    for name, value in fields.items():
        shown = f"{value:.1f}" if isinstance(value, float) else str(value)
        click.echo(f"{name.replace('_', ' '):<12} {shown}")
