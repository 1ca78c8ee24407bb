"""Suites, as a person reads them; answer keys are not shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from runner.domain import BenchmarkTask, Suite
from runner.reporting.console import field, inert, plain_table


def render_suites(suites: Sequence[Suite], console: Console) -> None:
    """A line for each suite."""
    table = plain_table(
        "suite", "version", "tasks", "description", right=("tasks",), fold=("suite", "description")
    )
    for suite in suites:
        table.add_row(
            inert(suite.name),
            inert(suite.version),
            Text(str(len(suite.tasks))),
            inert(suite.description),
        )
    console.print(table)


def render_suite(suite: Suite, console: Console) -> None:
    """Its identity and its tasks."""
    field(console, "suite", f"{suite.name} {suite.version}")
    if suite.description:
        field(console, "about", suite.description)
    field(console, "digest", suite.digest)
    field(console, "tasks", str(len(suite.tasks)))
    console.print()
    table = plain_table("task", "category", "difficulty", "name", "scorers", fold=("task", "name"))
    for task in suite.tasks:
        table.add_row(*_task_row(task))
    console.print(table)


def _task_row(task: BenchmarkTask) -> Iterable[Text]:
    scorers = sorted({criterion.scorer for criterion in task.answer_key.criteria})
    yield inert(task.task_id)
    yield Text(task.category.value)
    yield Text(task.difficulty.value)
    yield inert(task.name)
    yield Text(", ".join(scorers))
