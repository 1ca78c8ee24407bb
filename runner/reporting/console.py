"""What every display shares: the console, and the cells that hostile text is put into."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.domain import ExecutionStatus, FailureReason, TaskExecution
from runner.reporting.escape import escape

PIPED_COLUMNS = 120
"""How wide a table is where no terminal says."""

_SYMBOLS: dict[ExecutionStatus, tuple[str, str, str]] = {
    ExecutionStatus.PENDING: ("·", ".", "dim"),
    ExecutionStatus.RUNNING: ("▶", ">", "cyan"),
    ExecutionStatus.COMPLETED: ("✔", "+", "green"),
    ExecutionStatus.FAILED: ("✘", "x", "red"),
    ExecutionStatus.TIMEOUT: ("◷", "t", "yellow"),
    ExecutionStatus.RESOURCE_EXCEEDED: ("▲", "!", "magenta"),
    ExecutionStatus.CANCELLED: ("■", "-", "dim"),
}
"""The symbol, the same in ASCII, the style."""


def console_for(stream: TextIO) -> Console:
    """A console on that stream: no markup, no emoji codes, no guesses at what to highlight.

    NO_COLOR, FORCE_COLOR and COLUMNS are respected by rich itself. What the stream's encoding
    cannot hold is written as an escape instead of raising.
    """
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    width = None if stream.isatty() else PIPED_COLUMNS
    return Console(file=stream, markup=False, emoji=False, highlight=False, width=width)


FULL_SCORE = 99.95
_WORTH = (("✘", "-", "wrong"), ("◐", "~", "partly"), ("✔", "+", "solved"))


def inert(text: str | bytes, style: str = "", *, newlines: bool = False) -> Text:
    """Text that neither a terminal nor rich takes for anything else."""
    return Text(escape(text, newlines=newlines), style=style)


def outcome_cell(status: ExecutionStatus, reason: FailureReason | None, console: Console) -> Text:
    """A symbol and a word: the reason where there is one, for it implies the status."""
    symbol, plain, style = _SYMBOLS[status]
    word = (reason or status).value
    return Text(f"{symbol if _draws(console) else plain} {word}", style=style)


def task_cell(
    status: ExecutionStatus, reason: FailureReason | None, score: float | None, console: Console
) -> Text:
    """As `outcome_cell`, and of an answer that was judged, what it was worth."""
    if status is not ExecutionStatus.COMPLETED or score is None:
        return outcome_cell(status, reason, console)
    symbol, plain, word = _WORTH[_worth(score)]
    return Text(f"{symbol if _draws(console) else plain} {word}", style=score_cell(score).style)


def _worth(score: float) -> int:
    """0, 1 or 2: nothing, something, all."""
    return 2 if score >= FULL_SCORE else int(score > 0)


def score_cell(score: float | None) -> Text:
    """0 to 100."""
    if score is None:
        return Text("-", style="dim")
    style = ("red", "yellow", "green")[_worth(score)]
    return Text(f"{score:.1f}", style=style)


def judged_cell(execution: TaskExecution) -> Text:
    """The score of an attempt; none where there was no verdict."""
    return score_cell(execution.score.normalized if execution.score else None)


def seconds_cell(seconds: float | None) -> Text:
    """Seconds, with as many digits as mean something."""
    if seconds is None:
        return Text("-", style="dim")
    return Text(f"{seconds:.2f}" if seconds < 100 else f"{seconds:.0f}")


def bar_cell(share: float, columns: int, console: Console) -> Text:
    """`share` (0 to 1) as a bar."""
    full, empty = ("━", "╌") if _draws(console) else ("#", ".")
    filled = round(max(0.0, min(share, 1.0)) * columns)
    return Text(full * filled, style="cyan") + Text(empty * (columns - filled), style="dim")


def plain_table(*columns: str, right: tuple[str, ...] = (), fold: tuple[str, ...] = ()) -> Table:
    """A table without frames; `right` are its numbers, `fold` may take several lines."""
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
        header_style="bold",
    )
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in right else "left",
            no_wrap=column not in fold,
            overflow="fold",
        )
    return table


def field(console: Console, name: str, value: str | Text | Path) -> None:
    """A line `name   value`; a value that is too long goes on below itself."""
    shown = value if isinstance(value, Text) else inert(str(value))
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=12, no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    grid.add_row(Text(name), shown)
    console.print(grid)


def _draws(console: Console) -> bool:
    return not console.options.ascii_only
