"""A replay beside what was recorded, for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.reporting.console import inert, plain_table
from runner.reporting.escape import escape

COLUMN_GAP = 3
"""Blanks between what was recorded and what was asked."""


@dataclass(frozen=True, kw_only=True)
class ReplayLine:
    """One task of a replay."""

    task_id: str
    repeat: int
    exchanges: int
    """Model and tool calls of the replay."""
    differences: Sequence[str]
    """Empty: it is identical."""
    diverged_at: int | None = None
    """The number of the first exchange that the recording does not have."""
    was_over: bool = False
    """Whether it diverged where all that was recorded had been asked for."""
    side_by_side: Sequence[tuple[str, str]] = ()
    """Lines of what was recorded there, and of what was asked."""

    @property
    def identical(self) -> bool:
        """Whether nothing that counts differs."""
        return not self.differences and self.diverged_at is None


def render_replay(lines: Sequence[ReplayLine], run_id: str, console: Console) -> None:
    """A table of the tasks, then each difference, then the first divergence of each task."""
    numbers = ("repeat", "calls")
    table = plain_table("task", *numbers, "replay", right=numbers, fold=("task",))
    for line in lines:
        table.add_row(inert(line.task_id), str(line.repeat), str(line.exchanges), _verdict_of(line))
    console.print(table)
    for line in lines:
        _explain(line, console)
    same = sum(line.identical for line in lines)
    console.print(Text(f"\n{same} of {len(lines)} identical to run {escape(run_id)}"))


def _verdict_of(line: ReplayLine) -> Text:
    if line.identical:
        return Text("identical", style="green")
    if line.diverged_at is None:
        return Text("different", style="yellow")
    return Text(f"diverged at call {line.diverged_at}", style="red")


def _explain(line: ReplayLine, console: Console) -> None:
    if line.identical:
        return
    console.print(Text(f"\n{escape(line.task_id)}, repeat {line.repeat}", style="bold"))
    if line.differences:
        console.print(Text("  recorded != replayed", style="dim"))
    for difference in line.differences:
        console.print(Text(f"  {escape(difference)}"))
    if line.diverged_at is not None:
        _show_divergence(line, line.diverged_at, console)


def _show_divergence(line: ReplayLine, number: int, console: Console) -> None:
    if line.was_over:
        told = f"  call {number} was asked when nothing of the recording was left:"
        console.print(Text(told))
        for _, requested in line.side_by_side:
            console.print(Text(f"    {escape(requested)}", style="yellow"))
        return
    console.print(Text(f"  call {number} is none of those recorded:"))
    table = Table(box=None, pad_edge=False, padding=(0, COLUMN_GAP, 0, 0))
    table.add_column("RECORDED", no_wrap=True)
    table.add_column("REQUESTED", no_wrap=True)
    for recorded, requested in line.side_by_side:
        style = "" if recorded == requested else "yellow"
        table.add_row(Text(escape(recorded), style=style), Text(escape(requested), style=style))
    console.print(table)
