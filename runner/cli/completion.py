"""`agenttrace completion`."""

from __future__ import annotations

import click

INSTALL = {
    "bash": "agenttrace completion bash > ~/.local/share/bash-completion/completions/agenttrace",
    "zsh": 'agenttrace completion zsh > "${fpath[1]}/_agenttrace"',
    "fish": "agenttrace completion fish > ~/.config/fish/completions/agenttrace.fish",
}


@click.command(
    short_help="Print a shell's completion script.",
    epilog="\b\nInstall it with one of:\n" + "\n".join(f"  {line}" for line in INSTALL.values()),
)
@click.argument("shell", type=click.Choice(list(INSTALL)))
def completion(shell: str) -> None:
    """Print the script that completes this command in SHELL.

    The script goes to stdout; how to install it goes to stderr.
    """
    from click.shell_completion import get_completion_class

    from runner.cli.program import program

    maker = get_completion_class(shell)
    if maker is None:  # pragma: no cover - click knows all three
        raise click.UsageError(f"this version of click cannot complete in {shell}")
    click.echo(maker(program, {}, "agenttrace", "_AGENTTRACE_COMPLETE").source())
    click.echo(f"# install it, then open a new shell:\n#   {INSTALL[shell]}", err=True)
