"""Says what a long command is doing: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from runner.cli.failure import inert
from runner.cli.invocation import stderr_console
from runner.ports import Say


@contextmanager
def steps() -> Iterator[Say]:
    """A `say`: each line given to it is a step that begins, and ends the one before."""
    if not sys.stderr.isatty():
        yield lambda line: click.echo(inert(line), err=True)
        return
    live = _LiveSteps()
    with live.status:
        yield live.begin
        live.finish()


class _LiveSteps:
    """A spinner on the step in progress, above it those done with their times."""

    def __init__(self) -> None:
        self._console = stderr_console()
        self.status = self._console.status("")
        self._current = ""
        self._since = time.monotonic()

    def begin(self, line: str) -> None:
        """Shows `line` as what is going on."""
        from rich.text import Text

        self.finish()
        self._current = inert(line)
        self._since = time.monotonic()
        self.status.update(Text(self._current))

    def finish(self) -> None:
        """Leaves the step in progress behind as done."""
        from rich.text import Text

        if self._current:
            seconds = time.monotonic() - self._since
            done = Text.assemble(("✓ ", "green"), self._current, (f"  {seconds:.1f} s", "dim"))
            self._console.print(done)
        self._current = ""
