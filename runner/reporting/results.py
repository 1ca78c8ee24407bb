"""A finished run, and one attempt of it, as a person reads them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.domain import (
    BenchmarkExecution,
    CategoryExecution,
    ExecutionStatus,
    ResourceUsage,
    TaskExecution,
)
from runner.reporting.console import (
    bar_cell,
    field,
    inert,
    judged_cell,
    outcome_cell,
    plain_table,
    score_cell,
    seconds_cell,
    task_cell,
)
from runner.reporting.escape import shorten

_DETAIL_CHARACTERS = 300
_OUTPUT_CHARACTERS = 2000
_BAR_COLUMNS = 16
_MODEL_COLUMNS = ("calls", "tokens", "cost $")


def render_result(
    execution: BenchmarkExecution, console: Console, *, evidence: Path | None = None
) -> None:
    """Tasks, what went wrong, categories, the overall score, and where the evidence is."""
    console.print(_tasks_table(execution, console))
    _print_reasons(execution.task_executions, console)
    console.print()
    console.print(_categories_table(execution, console))
    console.print()
    _print_overall(execution, console, evidence)


def render_attempt(
    execution: TaskExecution, console: Console, *, evidence: Path | None = None
) -> None:
    """One attempt in full: how it ended, what it used, how it was judged, what it answered."""
    field(console, "task", f"{execution.task_id} ({execution.category.value})")
    field(console, "attempt", f"{execution.attempt} of repeat {execution.repeat}")
    field(console, "outcome", _outcome(execution, console))
    if execution.failure_detail:
        field(console, "because", shorten(execution.failure_detail, _OUTPUT_CHARACTERS))
    field(console, "score", judged_cell(execution))
    _print_usage(execution, console)
    _print_isolation(execution, console)
    _print_criteria(execution, console)
    _print_artifacts(execution, console)
    _print_output(execution, console)
    if evidence:
        field(console, "evidence", evidence)


# -- a run ---------------------------------------------------------------------------------------


def _outcome(execution: TaskExecution, console: Console) -> Text:
    score = execution.score.normalized if execution.score else None
    return task_cell(execution.status, execution.failure_reason, score, console)


def _tasks_table(execution: BenchmarkExecution, console: Console) -> Table:
    used_models = _used_models(execution)
    numbers = ("score", "time s", "cpu s", "peak MB", *(_MODEL_COLUMNS if used_models else ()))
    table = plain_table("task", "outcome", *numbers, right=numbers, fold=("task",))
    for category in execution.category_executions.values():
        table.add_row(Text(category.category.value, style="bold"))
        for each in category.task_executions:
            table.add_row(*_task_row(each, console), *(_model_cells(each) if used_models else ()))
        table.add_section()
    return table


def _task_row(execution: TaskExecution, console: Console) -> Iterable[Text]:
    usage = execution.resource_usage
    measured = execution.measurement is not None or usage.memory_peak_source is not None
    yield Text(" ") + inert(_label(execution))
    yield _outcome(execution, console)
    yield judged_cell(execution)
    yield seconds_cell(usage.execution_time_seconds)
    yield seconds_cell(usage.cpu_seconds if measured else None)
    yield Text(f"{usage.memory_peak_mb:.0f}" if measured else "-")


def _used_models(execution: BenchmarkExecution) -> bool:
    tasks = execution.task_executions
    return any(each.model_calls or each.tool_calls for each in tasks)


def _model_cells(execution: TaskExecution) -> Iterable[Text]:
    """Calls of models and tools, tokens, and cost; an unknown cost is said to be unknown."""
    usage = execution.resource_usage
    yield Text(f"{usage.api_calls_count}+{usage.tool_calls_count}")
    yield Text(f"{usage.tokens_total:,}")
    yield Text(_cost(usage) if usage.api_calls_count else "-")


def _cost(usage: ResourceUsage) -> str:
    """Calls of which none was sent cost nothing; otherwise what is not known is unknown."""
    cost_usd = 0.0 if usage.token_source is None else usage.cost_usd
    return "unknown" if cost_usd is None else f"{cost_usd:.4f}"


def _label(execution: TaskExecution) -> str:
    repeat = f" #{execution.repeat}" if execution.repeat > 1 else ""
    return execution.task_id + repeat


def _print_reasons(executions: Iterable[TaskExecution], console: Console) -> None:
    """A line for each task that did not end well, and says why."""
    reasons = [(each, each.failure_detail) for each in executions if each.failure_detail]
    if not reasons:
        return
    console.print()
    for execution, detail in reasons:
        symbol = outcome_cell(execution.status, execution.failure_reason, console)[:1]
        line = symbol + Text(" ") + inert(_label(execution), "bold") + Text("  ")
        console.print(line + Text(shorten(detail, _DETAIL_CHARACTERS)))


def _categories_table(execution: BenchmarkExecution, console: Console) -> Table:
    table = plain_table("category", "completed", "score", "", right=("completed", "score"))
    for category in execution.category_executions.values():
        table.add_row(
            Text(category.category.value),
            Text(_completed(category)),
            score_cell(category.normalized_score),
            bar_cell(category.normalized_score / 100, _BAR_COLUMNS, console),
        )
    return table


def _completed(category: CategoryExecution) -> str:
    tasks = category.task_executions
    done = sum(each.status is ExecutionStatus.COMPLETED for each in tasks)
    return f"{done} of {len(tasks)}"


def _print_overall(execution: BenchmarkExecution, console: Console, evidence: Path | None) -> None:
    score = score_cell(execution.overall_score) + Text(" of 100", style="dim")
    field(console, "overall", score)
    field(console, "agent", f"{execution.agent_name} {execution.agent_version}")
    field(console, "suite", f"{execution.suite_name} {execution.suite_version}")
    if execution.status is not ExecutionStatus.COMPLETED:
        field(console, "run", outcome_cell(execution.status, None, console))
    _print_where_from(execution, console)
    if execution.retried_attempts:
        field(console, "retried", f"{execution.retried_attempts} attempts, for reasons of ours")
    if evidence:
        field(console, "evidence", evidence)


def _print_where_from(execution: BenchmarkExecution, console: Console) -> None:
    """What was not made anew."""
    if execution.replay_of:
        field(console, "replay of", inert(execution.replay_of))
    tasks = execution.task_executions
    if reused := sum(bool(each.reused_from) for each in tasks):
        field(console, "reused", f"{reused} results of earlier runs")
    if cached := sum(_from_cache(each) for each in tasks) * (not execution.replay_of):
        field(console, "cached", f"{cached} tasks had answers from a cache")


def _from_cache(execution: TaskExecution) -> bool:
    models, tools = execution.model_calls, execution.tool_calls
    return any(call.cached for call in models) or any(call.cached for call in tools)


# -- an attempt ----------------------------------------------------------------------------------


def _print_usage(execution: TaskExecution, console: Console) -> None:
    usage = execution.resource_usage
    limits = execution.limits
    field(
        console,
        "time",
        f"{usage.execution_time_seconds:.3f} s of {limits.time_seconds:g} s; CPU"
        f" {usage.cpu_seconds:.3f} s, throttled {usage.cpu_throttled_seconds:.3f} s",
    )
    field(
        console,
        "memory",
        f"{usage.memory_peak_mb:.1f} MiB peak of {limits.memory_bytes / 2**20:g} MiB"
        f" ({usage.memory_peak_source or 'not measured'}); {usage.oom_kills} oom kills",
    )
    field(console, "other", _other_usage(usage))
    if execution.model_calls or execution.tool_calls:
        field(console, "models", _models_used(usage))
    for mismatch in execution.claim_mismatches:
        field(console, "claim", Text(shorten(mismatch, _DETAIL_CHARACTERS), style="yellow"))
    if execution.reused_from:
        field(console, "reused", f"the result of run {shorten(execution.reused_from, 200)}")


def _models_used(usage: ResourceUsage) -> str:
    waited = usage.provider_wait_seconds
    return (
        f"{usage.api_calls_count} calls, {usage.tool_calls_count} of tools;"
        f" {usage.tokens_input:,} tokens in, {usage.tokens_output:,} out"
        f" ({usage.token_source or 'not counted'}); cost {_cost(usage)} USD;"
        f" {usage.model_seconds:.3f} s with models, {waited:.3f} s excused"
    )


def _other_usage(usage: ResourceUsage) -> str:
    pids = "unknown" if usage.pids_peak is None else str(usage.pids_peak)
    return f"pids peak {pids}; output {usage.output_bytes} bytes; tokens {usage.tokens_total}"


def _print_isolation(execution: TaskExecution, console: Console) -> None:
    facts = execution.sandbox
    if facts:
        tier = f"{facts.tier}, runtime {facts.runtime}, engine {facts.engine_version}"
        field(console, "isolation", f"{tier}, cgroup v{facts.cgroup_version}")
    if not execution.agent_confirmed_dead:
        field(console, "warning", Text("a process outlived the kill", style="red"))


def _print_criteria(execution: TaskExecution, console: Console) -> None:
    if execution.score is None:
        return
    names = ("criterion", "scorer", "weight", "points", "detail")
    table = plain_table(*names, fold=("criterion", "detail"))
    for each in execution.score.criteria:
        table.add_row(
            inert(each.name),
            inert(each.scorer),
            Text(f"{each.weight:g}"),
            Text(f"{each.points:.2f}"),
            Text(shorten(each.detail, _DETAIL_CHARACTERS)),
        )
    console.print()
    console.print(table)


def _print_artifacts(execution: TaskExecution, console: Console) -> None:
    if not execution.artifacts:
        return
    table = plain_table("artifact", "bytes", "", right=("bytes",), fold=("artifact", ""))
    for each in execution.artifacts[:50]:
        skipped = f"skipped: {each.skipped}" if each.skipped else ""
        name, why = shorten(each.path, _DETAIL_CHARACTERS), shorten(skipped, _DETAIL_CHARACTERS)
        table.add_row(Text(name), Text(str(each.size_bytes)), Text(why))
    console.print()
    console.print(table)


def _print_output(execution: TaskExecution, console: Console) -> None:
    shown = shorten(execution.output, _OUTPUT_CHARACTERS, newlines=True)
    cut = " (cut at the limit)" if execution.output_truncated else ""
    console.print()
    console.print(Text(f"output{cut}", style="bold"))
    console.print(Text(shown or "(none)", style="" if shown else "dim"))
    console.print()
