"""What was spent and what is forecast, on a terminal and in a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from runner.domain.cost import (
    Basis,
    Figure,
    Forecast,
    SpendingBy,
    SpendingGroup,
    SpendingReport,
    SpendingTotals,
    TaskForecast,
)
from runner.reporting.cost import (
    cost_text,
    csv_cell,
    duration_text,
    render_forecast,
    render_spending,
    spending_csv,
    usd_text,
)


def shown(render: Any, value: object) -> str:
    stream = io.StringIO()
    render(value, Console(file=stream, width=120, markup=False, emoji=False, highlight=False))
    return stream.getvalue()


def totals(**changes: Any) -> SpendingTotals:
    fields: dict[str, Any] = {"calls": 5, "tokens_input": 12_345, "tokens_output": 67}
    return SpendingTotals(**(fields | {"cost_usd": 12.34} | changes))


def report(*groups: SpendingGroup, **changes: Any) -> SpendingReport:
    total = sum((group.totals for group in groups), SpendingTotals())
    fields: dict[str, Any] = {"by": SpendingBy.MODEL, "groups": groups, "total": total, "runs": 2}
    return SpendingReport(**(fields | changes))


# -- what was spent ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (totals(), "12.34 USD"),
        (totals(unknown_cost_calls=3), "12.34 USD + 3 calls of unknown cost"),
        (totals(unknown_cost_calls=1), "12.34 USD + 1 call of unknown cost"),
        (totals(unknown_cost_calls=5, cost_usd=0.0), "5 calls of unknown cost"),
        (totals(cost_usd=0.0), "0.00 USD"),
        (SpendingTotals(), "0.00 USD"),
    ],
)
def test_an_unknown_cost_is_said(found: SpendingTotals, text: str) -> None:
    assert cost_text(found) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0.00 USD"),
        (0.0000123, "1.2e-05 USD"),
        (0.00123, "0.0012 USD"),
        (0.25, "0.2500 USD"),
        (1234.5, "1,234.50 USD"),
    ],
)
def test_money(amount: float, text: str) -> None:
    assert usd_text(amount) == text


def test_the_table_has_a_line_for_each_and_the_sum() -> None:
    small = SpendingGroup(name="openai/small", runs=2, totals=totals(unknown_cost_calls=1))
    large = SpendingGroup(name="openai/large", runs=1, totals=totals(cached_calls=4))
    text = shown(render_spending, report(small, large))
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert lines["openai/large"][1:6] == ["1", "5", "4", "12,345", "67"]
    assert lines["total"][1:6] == ["2", "10", "4", "24,690", "134"]
    assert "24.68 USD + 1 call of unknown cost" in text


def test_nothing_was_spent_and_damaged_lines_are_told() -> None:
    assert "nothing was spent" in shown(render_spending, report())
    assert "since 2026-03-14" in shown(render_spending, report(since=date(2026, 3, 14)))
    assert "3 damaged lines" in shown(render_spending, report(damaged_lines=3))


def test_a_hostile_name_does_nothing_to_a_terminal() -> None:
    group = SpendingGroup(name="a/\x1b[2J\u202e[red]", runs=1, totals=totals())
    text = shown(render_spending, report(group))
    assert "a/\\x1b[2J\\u202e[red]" in text
    assert "\x1b" not in text


# -- a spreadsheet -------------------------------------------------------------------------------


def test_csv_is_read_back_and_an_unknown_cost_is_an_empty_cell() -> None:
    text = spending_csv(
        report(
            SpendingGroup(name='x/a,"b"', runs=2, totals=totals()),
            SpendingGroup(name="x/c", runs=1, totals=totals(unknown_cost_calls=5, cost_usd=0.0)),
        )
    )
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["model"] for row in rows] == ['x/a,"b"', "x/c"]
    assert [row["cost_usd"] for row in rows] == ["12.34", ""]
    assert [row["unknown_cost_calls"] for row in rows] == ["0", "5"]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "\uff1d1+1", "=cmd|' /C"])
def test_no_cell_is_a_formula(name: str) -> None:
    assert csv_cell(name) == f"'{name}"
    group = SpendingGroup(name=name, runs=1, totals=totals())
    [row] = csv.DictReader(io.StringIO(spending_csv(report(group))))
    assert row["model"] == f"'{name}"


@given(name=st.text())
def test_whatever_a_name_holds_it_is_one_inert_cell(name: str) -> None:
    group = SpendingGroup(name=name, runs=1, totals=totals())
    text = spending_csv(report(group))
    assert len(text.splitlines()) == 2
    [row] = csv.DictReader(io.StringIO(text))
    assert not row["model"].lstrip().startswith(("=", "+", "-", "@"))
    assert row["model"].isprintable()
    assert row["runs"] == "1"


# -- what is forecast ----------------------------------------------------------------------------


def forecast(**changes: Any) -> Forecast:
    figure = Figure(low=90, median=100, high=120)
    fields: dict[str, Any] = {
        "agent_name": "echo\x1b",
        "suite_name": "starter",
        "attempts": 6,
        "parallelism": 3,
        "interval": 0.8,
        "tokens_input": figure,
        "tokens_output": figure,
        "tokens_total": figure,
        "cost_usd": Figure(low=1, median=2, high=4),
        "container_seconds": figure,
        "wall_seconds": Figure(low=5, median=5, high=5),
        "disk_bytes": Figure(low=1024, median=2048, high=4096),
        "tasks": (
            TaskForecast(
                task_id="a", basis=Basis.SAME_TASK, samples=4, tokens=50, cost_usd=1.0, seconds=2.0
            ),
            TaskForecast(task_id="b", basis=Basis.NOTHING),
        ),
        "samples": 4,
        "runs": 2,
        "unknown_tasks": 1,
    }
    return Forecast(**(fields | changes))


def test_each_figure_has_its_interval() -> None:
    text = shown(render_forecast, forecast())
    assert "100 (90 to 120); about 100 in, 100 out" in text
    assert "2.00 USD (1.00 USD to 4.00 USD)" in text
    assert "2.0 KiB (1.0 KiB to 4.0 KiB)" in text
    assert "5.0 s\n" in text  # nothing varies: one figure
    assert "80% of such runs" in text
    assert "4 earlier attempts in 2 runs" in text
    assert re.search(r"^ *1 +this agent's attempts at them *$", text, re.MULTILINE)
    assert re.search(r"^ *1 +nothing: they are in no figure *$", text, re.MULTILINE)
    assert re.search(r"^a +4 +50 +1\.00 USD +2\.0 *$", text, re.MULTILINE)
    assert not re.search(r"^b ", text, re.MULTILINE)
    assert "\x1b" not in text


def test_the_dearest_tasks_come_first() -> None:
    tasks = [
        TaskForecast(task_id=f"t{n:02}", basis=Basis.SAME_TASK, samples=1, tokens=n, cost_usd=None)
        for n in range(20)
    ]
    text = shown(render_forecast, forecast(tasks=tuple(tasks)))
    assert re.findall(r"^t\d\d", text, re.MULTILINE) == [f"t{n}" for n in range(19, 11, -1)]
    assert "... 12 cheaper ones" in text


def test_other_agents_figures_are_told_as_such() -> None:
    other = TaskForecast(task_id="a", basis=Basis.OTHER_AGENTS, samples=4, tokens=1, seconds=1)
    text = shown(render_forecast, forecast(tasks=(other,)))
    assert "other agents' figures stand for its own" in text
    assert "--pilot 3" in text


def test_a_cost_that_is_known_of_some_tasks_alone() -> None:
    text = shown(render_forecast, forecast(unknown_cost_tasks=2))
    assert "4.00 USD) + 2 tasks of unknown cost" in text
    assert "cost         unknown\n" in shown(render_forecast, forecast(cost_usd=None))


def test_no_history_recommends_a_pilot() -> None:
    nothing = dict.fromkeys(
        ("tokens_input", "tokens_output", "tokens_total", "cost_usd", "container_seconds")
    )
    text = shown(
        render_forecast,
        forecast(
            **nothing,
            wall_seconds=None,
            disk_bytes=None,
            samples=0,
            runs=0,
            tasks=(TaskForecast(task_id="a", basis=Basis.NOTHING),),
        ),
    )
    assert text.count("unknown\n") == 5
    assert "--pilot 3" in text
    assert "0" not in text.partition("tokens")[2].partition("rests")[0]


def test_a_pilot_is_named_and_not_recommended_again() -> None:
    text = shown(render_forecast, forecast(pilot="20260314-092600-aaaaaa"))
    assert "4 earlier attempts in run 20260314-092600-aaaaaa" in text
    assert "--pilot" not in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
