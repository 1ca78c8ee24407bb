"""What was spent and what is forecast, as a person or a spreadsheet reads it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.domain.cost import (
    Basis,
    Figure,
    Forecast,
    SpendingGroup,
    SpendingReport,
    SpendingTotals,
    TaskForecast,
)
from runner.domain.removal import size_text
from runner.reporting.console import field, inert, plain_table
from runner.reporting.escape import escape

CSV_COLUMNS = (
    *("runs", "calls", "cached_calls", "tokens_input", "tokens_output"),
    *("cost_usd", "unknown_cost_calls"),
)
_TASKS_SHOWN = 8
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""With these, the wide ones of East Asia among them, a spreadsheet takes a cell for a formula."""
_BASIS = {
    Basis.SAME_TASK: "this agent's attempts at them",
    Basis.SAME_AGENT: "this agent's attempts at other tasks",
    Basis.OTHER_AGENTS: "other agents' attempts at them",
    Basis.NOTHING: "nothing: they are in no figure",
}
_OF_ITS_OWN = (Basis.SAME_TASK, Basis.OTHER_AGENTS)


# -- what was spent ------------------------------------------------------------------------------


def render_spending(report: SpendingReport, console: Console) -> None:
    """A line for each group, the sum, and what is not in it."""
    if not report.groups:
        when = f" since {report.since}" if report.since else ""
        console.print(Text(f"No model was called{when}: nothing was spent."))
    else:
        console.print(_spending_table(report))
    if report.damaged_lines:
        lines = f"{report.damaged_lines} damaged lines of spending.jsonl are not in it"
        console.print(Text(lines, style="yellow"))


def _spending_table(report: SpendingReport) -> Table:
    numbers = ("runs", "calls", "cached", "tokens in", "tokens out", "cost")
    table = plain_table(report.by.value, *numbers, right=numbers, fold=(report.by.value, "cost"))
    for group in report.groups:
        table.add_row(inert(group.name), *_spending_cells(group.runs, group.totals))
    table.add_section()
    table.add_row(Text("total", style="bold"), *_spending_cells(report.runs, report.total))
    return table


def _spending_cells(runs: int, totals: SpendingTotals) -> Iterator[Text]:
    yield Text(str(runs))
    yield Text(f"{totals.calls:,}")
    yield Text(f"{totals.cached_calls:,}")
    yield Text(f"{totals.tokens_input:,}")
    yield Text(f"{totals.tokens_output:,}")
    yield Text(cost_text(totals))


def cost_text(totals: SpendingTotals) -> str:
    """`12.34 USD + 3 calls of unknown cost`: what is unknown is said, and never counted as zero."""
    unknown = totals.unknown_cost_calls
    calls = f"{unknown} call{'' if unknown == 1 else 's'} of unknown cost"
    known = totals.known_cost_usd
    if known is None:
        return calls
    return f"{usd_text(known)} + {calls}" if unknown else usd_text(known)


def usd_text(amount: float) -> str:
    """With cents, and with more digits where cents would not show it."""
    if amount == 0 or amount >= 1:
        return f"{amount:,.2f} USD"
    return f"{amount:.4f} USD" if amount >= 0.001 else f"{amount:.2g} USD"


def spending_csv(report: SpendingReport) -> str:
    """A line for each group under a line of names; nothing in it is a spreadsheet's formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((report.by.value, *CSV_COLUMNS))
    for group in report.groups:
        writer.writerow((csv_cell(group.name), *_csv_numbers(group)))
    return text.getvalue()


def _csv_numbers(group: SpendingGroup) -> Iterator[str]:
    """An unknown cost is an empty cell."""
    totals = group.totals
    data = totals.model_dump() | {"runs": group.runs, "cost_usd": totals.known_cost_usd}
    for name in CSV_COLUMNS:
        yield "" if data[name] is None else str(data[name])


def csv_cell(text: str) -> str:
    """`text` without anything invisible, and with a quote before what would be a formula."""
    shown = escape(text)
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA) else shown


# -- what is forecast ----------------------------------------------------------------------------


def render_forecast(forecast: Forecast, console: Console) -> None:
    """Each figure with its interval, what it rests on, and what is not in it."""
    field(console, "agent", forecast.agent_name)
    attempts = f"{forecast.attempts} attempts, {forecast.parallelism} at once"
    field(console, "run", f"{forecast.suite_name}: {attempts}")
    for name, text in _figures(forecast):
        field(console, name, text)
    field(console, "rests on", _rests_on(forecast))
    if forecast.samples:
        console.print()
        console.print(_basis_table(forecast))
        console.print()
        console.print(_dearest_table(forecast.tasks))
    for line in _notes(forecast):
        console.print(Text(line, style="yellow"))


def _figures(forecast: Forecast) -> Iterator[tuple[str, str]]:
    tokens = _between(forecast.tokens_total, _count)
    inside, out = forecast.tokens_input, forecast.tokens_output
    if inside and out:
        tokens += f"; about {_count(inside.median)} in, {_count(out.median)} out"
    yield "tokens", tokens
    yield "cost", _cost_forecast(forecast)
    yield "time", _between(forecast.wall_seconds, duration_text)
    yield "containers", _between(forecast.container_seconds, duration_text)
    yield "disk", _between(forecast.disk_bytes, lambda number: size_text(round(number)))
    share = f"{forecast.interval:.0%}"
    if forecast.samples:
        yield "interval", f"{share} of such runs are expected between the two figures"


def _cost_forecast(forecast: Forecast) -> str:
    known = _between(forecast.cost_usd, usd_text)
    unknown = forecast.unknown_cost_tasks
    if not unknown or forecast.cost_usd is None:
        return known
    return f"{known} + {unknown} task{'' if unknown == 1 else 's'} of unknown cost"


def _between(figure: Figure | None, text: Callable[[float], str]) -> str:
    if figure is None:
        return "unknown"
    low, median, high = (text(each) for each in (figure.low, figure.median, figure.high))
    return median if low == high else f"{median} ({low} to {high})"


def _rests_on(forecast: Forecast) -> str:
    if not forecast.samples:
        return "nothing: neither this agent nor these tasks have been run here"
    where = f"run {forecast.pilot}" if forecast.pilot else _counted(forecast.runs, "run")
    return f"{_counted(forecast.samples, 'earlier attempt')} in {where}"


def _basis_table(forecast: Forecast) -> Table:
    """How many tasks rest on what."""
    table = plain_table("tasks", "forecast from", right=("tasks",))
    for basis, what in _BASIS.items():
        if number := forecast.resting_on(basis):
            table.add_row(Text(str(number)), Text(what))
    return table


def _dearest_table(tasks: Sequence[TaskForecast]) -> Table:
    """Those that use most, of those that have attempts of their own."""
    own = [task for task in tasks if task.basis in _OF_ITS_OWN]
    dearest = sorted(own, key=_dearness, reverse=True)
    numbers = ("attempts", "tokens", "cost", "seconds")
    table = plain_table("task", *numbers, right=numbers, fold=("task",))
    for task in dearest[:_TASKS_SHOWN]:
        table.add_row(inert(task.task_id), *_task_cells(task))
    if len(dearest) > _TASKS_SHOWN:
        more = f"... {len(dearest) - _TASKS_SHOWN} cheaper ones: --json has them all"
        table.add_row(Text(more, style="dim"))
    return table


def _dearness(task: TaskForecast) -> tuple[float, float, float]:
    return task.cost_usd or 0.0, task.tokens or 0.0, task.seconds or 0.0


def _task_cells(task: TaskForecast) -> Iterator[Text]:
    """Medians; a dash for what is unknown."""
    yield Text(str(task.samples))
    yield Text("-" if task.tokens is None else _count(task.tokens))
    yield Text("-" if task.cost_usd is None else usd_text(task.cost_usd))
    yield Text("-" if task.seconds is None else f"{task.seconds:.1f}")


def _notes(forecast: Forecast) -> Iterator[str]:
    """What is not in the figures, and how to know more."""
    if forecast.resting_on(Basis.OTHER_AGENTS):
        yield "this agent has not been run here: other agents' figures stand for its own"
    uncertain = forecast.resting_on(Basis.NOTHING) + forecast.resting_on(Basis.OTHER_AGENTS)
    if uncertain and not forecast.pilot:
        yield "`--pilot 3` runs three of its tasks first, and forecasts from them"


def duration_text(seconds: float) -> str:
    """`12 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left:02} min" if hours else f"{minutes} min {rest:02} s"


def _count(number: float) -> str:
    return f"{round(number):,}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
