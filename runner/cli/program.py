"""The table of commands, imported one by one as they are called, and the edge where errors end.

Nothing but click is imported for `--help`, which has to answer at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TextIO

import click

from runner.cli.failure import INTERRUPTED, USAGE, report, say
from runner.cli.invocation import Invocation

COMMANDS: dict[str, tuple[str, str]] = {
    "setup": ("runner.cli.setup:setup", "Prepare the engine and the images; safe to repeat."),
    "doctor": ("runner.cli.doctor:doctor", "Probe what isolation this host really gives."),
    "run": ("runner.cli.run:run", "Evaluate a submission on a suite."),
    "resume": ("runner.cli.resume:resume", "Go on with a run that was stopped."),
    "runs": ("runner.cli.runs:runs", "List runs, or show one."),
    "submit": ("runner.cli.submit:submit", "Check a submission and put it into the queue."),
    "queue": ("runner.cli.queue:queue", "Show what waits and runs; cancel, retry."),
    "worker": ("runner.cli.worker:worker", "Work off the queue of submissions."),
    "trace": ("runner.cli.trace:trace", "Show what happened in an attempt."),
    "cost": ("runner.cli.cost:cost", "Forecast what a run will use, or report what was spent."),
    "replay": ("runner.cli.replay:replay", "Run a run again against what it recorded."),
    "suite": ("runner.cli.suite:suite", "List suites, or show the tasks of one."),
    "cleanup": (
        "runner.cli.cleanup:cleanup",
        "Remove what killed runners left, old runs, unused images.",
    ),
    "store": ("runner.cli.store:store", "Look at the database, copy it, change its schema."),
    "config": ("runner.cli.config:config", "Show the settings that hold, and who set them."),
    "completion": ("runner.cli.completion:completion", "Print a shell's completion script."),
}
"""Name -> (module:function, one line of help); a test compares the lines with the commands'."""

BROKEN_PIPE = 128 + 13
"""As a shell reports a program that SIGPIPE ended."""


class CommandTable(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), function)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but knows which name may have been meant."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            nearest = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists them without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Ends quietly when whoever read our output went away (`| head`)."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _discard(sys.stdout)
            raise click.exceptions.Exit(BROKEN_PIPE) from None
        except SystemExit as error:
            if isinstance(error.__context__, BrokenPipeError):  # rich's way of saying the same
                raise click.exceptions.Exit(BROKEN_PIPE) from None
            raise


def _discard(stream: TextIO) -> None:
    """Lets the interpreter flush it at its end without a second complaint."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):  # it is no file, or closed: nothing is flushed to it
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _print_version(ctx: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("agenttrace-runner")
    except PackageNotFoundError:
        number = "0+source"
    click.echo(f"agenttrace {number}")
    ctx.exit()


@click.group(
    cls=CommandTable,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  agenttrace setup                           once per machine
  agenttrace run examples/rule_based         evaluate a directory
  agenttrace run agent.py:answer -c planning evaluate one function
  agenttrace runs list                       what was run here

\b
Exit codes: 0 done, 1 below --fail-under, 2 usage or invalid submission,
3 infrastructure, 4 budget or quota, 130 interrupted.
""",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
def program() -> None:
    """Evaluate untrusted AI agents: isolated, measured from outside, scored, traced."""


def _prepare_process() -> None:
    """Closed standard streams lead nowhere; SIGTERM ends a command as Ctrl-C does."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - to the end
            setattr(sys, name, nowhere)
    with suppress(ValueError):  # signals are the main thread's affair
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _let_signals_end(arguments: Sequence[str] | None) -> None:
    """When the work is done, a further Ctrl-C ends the process without a traceback.

    Not where a test or another program, with `arguments` of its own, goes on living.
    """
    if arguments is None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)


def _flush() -> None:
    """Whoever read our output, or the disk it went to, may be gone: said by now, if it matters."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _discard(stream)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line (default: this process's) and returns its exit code."""
    _prepare_process()
    invocation = Invocation()
    try:
        code = program.main(
            args=None if arguments is None else list(arguments),
            prog_name="agenttrace",
            obj=invocation,
            standalone_mode=False,
        )
    except click.ClickException as error:
        with suppress(OSError):  # the exit code counts even where nobody reads it
            error.show()
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        _let_signals_end(arguments)
        say("interrupted")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the edge: everything ends as a line and a code
        return report(
            error, traceback=invocation.verbose or bool(os.environ.get("AGENTTRACE_DEBUG"))
        )
    finally:
        _let_signals_end(arguments)
        _flush()
    return code if isinstance(code, int) else 0
