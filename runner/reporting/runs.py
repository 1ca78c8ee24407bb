"""Past and present runs, as a person reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from runner.domain.run import LoadedRun, RecordedAttempt, RunSummary
from runner.reporting.console import (
    field,
    inert,
    judged_cell,
    outcome_cell,
    plain_table,
    score_cell,
    seconds_cell,
    task_cell,
)
from runner.reporting.results import render_result


def render_runs(runs: Sequence[RunSummary], console: Console) -> None:
    """A line for each, in the order given; what is damaged is said below."""
    if not runs:
        console.print(Text("No runs yet: `agenttrace run SUBMISSION` makes one."))
        return
    names = ("run", "agent", "suite", "outcome", "tasks", "score")
    table = plain_table(*names, right=("tasks", "score"), fold=("agent", "suite"))
    for run in runs:
        table.add_row(*_run_row(run, console))
    console.print(table)
    _print_notes(runs, console)


def render_run(run: LoadedRun, console: Console) -> None:
    """The result where there is one, else what is known of each attempt so far."""
    summary = run.summary
    if run.execution:
        render_result(run.execution, console, evidence=summary.path)
    else:
        _print_progress(run, console)
    _print_notes([summary], console)
    _print_attempts([each for each in run.attempts if each.attempt > 1 or each.note], console)


def _run_row(run: RunSummary, console: Console) -> Iterable[Text]:
    yield inert(run.run_id)
    yield inert(f"{run.agent_name} {run.agent_version}".strip() or "-")
    yield inert(f"{run.suite_name} {run.suite_version}".strip() or "-")
    outcome = outcome_cell(run.status, None, console)
    yield outcome + Text(" (replay)", style="dim") if run.replay_of else outcome
    yield Text(f"{run.tasks_finished}/{run.tasks_total}")
    yield score_cell(run.score)


def _print_notes(runs: Iterable[RunSummary], console: Console) -> None:
    for run in runs:
        for note in run.notes:
            console.print(inert(f"{run.run_id}: {note}", "yellow"))


def _print_progress(run: LoadedRun, console: Console) -> None:
    summary = run.summary
    field(console, "run", summary.run_id)
    field(console, "outcome", outcome_cell(summary.status, None, console))
    field(console, "agent", f"{summary.agent_name} {summary.agent_version}")
    field(console, "suite", f"{summary.suite_name} {summary.suite_version}")
    if summary.replay_of:
        field(console, "replay of", summary.replay_of)
    field(console, "tasks", f"{summary.tasks_finished} of {summary.tasks_total} finished")
    field(console, "evidence", summary.path)
    console.print()
    _print_attempts(run.attempts, console)


def _print_attempts(attempts: Sequence[RecordedAttempt], console: Console) -> None:
    if not attempts:
        return
    numbers = ("repeat", "attempt", "seconds", "score")
    table = plain_table("task", *numbers, "outcome", right=numbers, fold=("task", "outcome"))
    for each in attempts:
        table.add_row(*_attempt_row(each, console))
    console.print(table)


def _attempt_row(attempt: RecordedAttempt, console: Console) -> Iterable[Text]:
    execution = attempt.execution
    yield inert(attempt.task_id)
    yield Text(str(attempt.repeat))
    yield Text(str(attempt.attempt))
    if execution is None:
        yield from (Text("-"), Text("-"), inert(attempt.note, "yellow"))
        return
    yield seconds_cell(execution.resource_usage.execution_time_seconds)
    yield judged_cell(execution)
    score = execution.score.normalized if execution.score else None
    yield task_cell(execution.status, execution.failure_reason, score, console)
