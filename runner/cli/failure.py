"""What a person reads, and what a script gets, when a command could not do its work."""

from __future__ import annotations

import errno
from contextlib import suppress

import click

from runner.errors import BuildFailed, InfrastructureError, RunnerError

BELOW_THRESHOLD = 1
USAGE = 2
INFRASTRUCTURE = 3
INTERRUPTED = 130

_NO_ROOM = "free some space where the output and the run directories go (-o), then run it again"
_NOT_ALLOWED = "give this user permission there, or choose another place with -o"
HOST_TROUBLE = {
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EIO: "check that disk",
    errno.EROFS: "that file system is read-only: choose another place with -o",
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.EMFILE: "raise the limit of open files (`ulimit -n`), or lower --concurrency",
    errno.ENFILE: "close other programs: this host has too many files open",
}
"""What the operating system refuses is no fault of ours, wherever it turns up."""

LONGEST_LINE = 2000
BUILD_LOG_LINES = 15
"""How much of a failed build's output is shown; pip and compilers explain themselves at the end."""


def report(error: Exception, *, traceback: bool) -> int:
    """Says on stderr what went wrong and what to do next; returns the exit code."""
    if traceback:
        _print_traceback(error)
    if isinstance(error, OSError) and error.errno in HOST_TROUBLE:
        say(f"error: {error.filename or 'output'}: {(error.strerror or str(error)).lower()}")
        say(f"next: {HOST_TROUBLE[error.errno]}")
        return INFRASTRUCTURE
    if not isinstance(error, RunnerError):
        say(f"error: unexpected {type(error).__name__}: {error}")
        say(
            "next: this is a fault of ours; run it again with AGENTTRACE_DEBUG=1 and report the"
            " traceback to the project's issue tracker"
        )
        return INFRASTRUCTURE
    if isinstance(error, BuildFailed):
        _show_build_log(error.log)
    say(f"error: {error.message}")
    if remedy := error.remedy or _otherwise(error):
        say(f"next: {remedy}")
    return error.exit_code


def _otherwise(error: RunnerError) -> str:
    """What to do about an error that does not say itself."""
    if isinstance(error, InfrastructureError):
        return "`agenttrace doctor` examines the engine, whose own log says more; then try again"
    return ""


def inert(text: str) -> str:
    r"""Text in which nothing moves a cursor or hides: what is not printable becomes `\x1b`."""
    from runner.domain.text import one_line

    return one_line(text, limit=LONGEST_LINE)


def say(line: str) -> None:
    """Writes a line to stderr; the exit code counts even where nobody reads it."""
    with suppress(OSError):
        click.echo(inert(line), err=True)


def _show_build_log(log: bytes) -> None:
    """Its last lines; hostile, so each is made inert and cut."""
    lines = log[-64_000:].decode(errors="backslashreplace").splitlines()
    for line in [line for line in lines if line.strip()][-BUILD_LOG_LINES:]:
        say(f"  | {line[:500]}")


def _print_traceback(error: Exception) -> None:
    from traceback import format_exception

    for line in "".join(format_exception(error)).splitlines():
        say(line)
