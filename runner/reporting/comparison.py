"""What differs between two runs, for a person: only what does is shown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from runner.domain.comparison import (
    Change,
    PackageChanges,
    RunComparison,
    TaskComparison,
    TaskSide,
)
from runner.reporting.console import field, inert, plain_table, score_cell
from runner.reporting.escape import shorten

_CELL_CHARACTERS = 60
_CALL_CHARACTERS = 160
_PACKAGES_SHOWN = 8


def render_comparison(comparison: RunComparison, console: Console) -> None:
    """What was asked and where, then the tasks that came out otherwise, then the judgement."""
    field(console, "left", f"{comparison.left}  score {_score(comparison.score_left)}")
    field(console, "right", f"{comparison.right}  score {_score(comparison.score_right)}")
    for name in ("plan", "suite", "image", "limits", "settings", "environment"):
        _print_changes(name, getattr(comparison, name), console)
    _print_packages(comparison.packages, console)
    differing = [task for task in comparison.tasks if _worth_showing(task)]
    if differing:
        _print_tasks(differing, console)
    console.print()
    console.print(_judgement(comparison))


def _worth_showing(task: TaskComparison) -> bool:
    return not task.same or task.divergence is not None


def _judgement(comparison: RunComparison) -> Text:
    different = sum(not task.same for task in comparison.tasks)
    if not different:
        return Text("same status, score and answer of every task", "green")
    return Text(f"{different} of {len(comparison.tasks)} tasks differ in what counts", "red")


def _print_changes(name: str, changes: Sequence[Change], console: Console) -> None:
    if not changes:
        return
    console.print()
    table = plain_table(name, "left", "right", fold=(name, "left", "right"))
    for each in changes:
        table.add_row(inert(each.path), _cell(each.left), _cell(each.right))
    console.print(table)


def _cell(value: str) -> Text:
    return Text(shorten(value, _CELL_CHARACTERS)) if value else Text("-", style="dim")


def _print_packages(packages: PackageChanges, console: Console) -> None:
    """Folded: a new environment may differ in a hundred."""
    for word in ("added", "removed", "changed"):
        names: tuple[str, ...] = getattr(packages, word)
        if names:
            more = len(names) - _PACKAGES_SHOWN
            shown = ", ".join(names[:_PACKAGES_SHOWN]) + (f" and {more} more" if more > 0 else "")
            field(console, word, f"{len(names)} packages: {shown}")


def _print_tasks(tasks: Sequence[TaskComparison], console: Console) -> None:
    console.print()
    table = plain_table(
        *("task", "", "status", "score", "answer", "tokens", "calls", "seconds"),
        right=("score", "tokens", "calls", "seconds"),
        fold=("status",),
    )
    for task in tasks:
        name = task.task_id if task.repeat == 1 else f"{task.task_id} #{task.repeat}"
        both = task.left is not None and task.right is not None
        answer = Text(("same" if task.same_output else "differs") if both else "-")
        table.add_row(inert(name), "left", *_side(task.left, answer))
        table.add_row("", "right", *_side(task.right, Text("")))
    console.print(table)
    for task in tasks:
        _print_divergence(task, console)


def _side(side: TaskSide | None, answer: Text) -> list[Text]:
    if side is None:
        return [Text("missing", style="yellow"), *[Text("-", style="dim")] * 5]
    return [
        inert(side.failure_reason or side.status),
        score_cell(side.score),
        answer,
        Text(f"{side.tokens:,}"),
        Text(f"{side.model_calls}+{side.tool_calls}"),
        Text(f"{side.seconds:.2f}"),
    ]


def _print_divergence(task: TaskComparison, console: Console) -> None:
    found = task.divergence
    if found is None:
        return
    console.print()
    console.print(inert(f"{task.task_id} #{task.repeat}: call {found.position} differs", "bold"))
    for name, call in (("left", found.left), ("right", found.right)):
        field(console, name, Text(shorten(call, _CALL_CHARACTERS) or "(no further call)"))


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.1f}"
