"""A replay beside what was recorded, for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.reporting.escape import escape


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
    side_by_side: Sequence[tuple[str, str]] = ()
    """Lines of what was recorded there, and of what was asked."""


def render_replay(lines: Sequence[ReplayLine], run_id: str, console: Console) -> None:
    """A table of the tasks, then each difference, then the first divergence of each task."""
    table = Table(box=None, pad_edge=False)
    for name in ("TASK", "REPEAT", "CALLS", "REPLAY"):
        table.add_column(name, justify="right" if name in {"REPEAT", "CALLS"} else "left")
    for line in lines:
        cells = (Text(escape(line.task_id)), str(line.repeat), str(line.exchanges))
        table.add_row(*cells, _verdict_of(line))
    console.print(table)
    for line in lines:
        _explain(line, console)
    same = sum(1 for line in lines if not line.differences)
    told = f"{same} of {len(lines)} tasks replayed identically to run {escape(run_id)}"
    console.print(Text(told))


def _verdict_of(line: ReplayLine) -> Text:
    if not line.differences:
        return Text("identical", style="green")
    if line.diverged_at is None:
        return Text("different", style="yellow")
    return Text(f"diverged at exchange {line.diverged_at}", style="red")


def _explain(line: ReplayLine, console: Console) -> None:
    if not line.differences:
        return
    console.print(Text(f"\n{escape(line.task_id)}, repeat {line.repeat}", style="bold"))
    for difference in line.differences:
        console.print(Text(f"  {escape(difference)}"))
    if not line.side_by_side:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    table.add_column("RECORDED")
    table.add_column("REQUESTED")
    for recorded, requested in line.side_by_side:
        style = "" if recorded == requested else "yellow"
        table.add_row(Text(escape(recorded), style=style), Text(escape(requested), style=style))
    console.print(table)
