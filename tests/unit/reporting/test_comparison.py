"""Two runs beside each other: what is missing is said, and nothing hostile acts on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from runner.domain.comparison import (
    CallDivergence,
    Change,
    PackageChanges,
    RunComparison,
    TaskComparison,
    TaskSide,
)
from runner.reporting.comparison import render_comparison

HOSTILE = "\x1b]0;owned\x07[red]\u202e"
SIDE = TaskSide(
    status="completed",
    score=100,
    tokens=12,
    cost_usd=None,
    model_calls=1,
    tool_calls=0,
    seconds=0.5,
)


def shown(**parts: object) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=200, markup=False, emoji=False, highlight=False)
    made = RunComparison.model_validate({"left": "r1", "right": "r2"} | parts)
    render_comparison(made, console)
    return stream.getvalue()


def task(**changes: object) -> TaskComparison:
    given = {"task_id": "alpha", "repeat": 1, "left": SIDE, "right": SIDE, "same_output": True}
    return TaskComparison.model_validate(given | changes)


def test_what_is_the_same_is_not_shown() -> None:
    told = shown(tasks=(task(),))
    assert "alpha" not in told
    assert told.splitlines()[-1] == "same status, score and answer of every task"


def test_of_a_task_that_one_run_lacks_no_answer_is_compared() -> None:
    told = shown(tasks=(task(right=None, same_output=False), task(repeat=2, same_output=False)))
    rows = [row.split() for row in told.splitlines()]
    assert ["alpha", "left", "completed", "100.0", "-", "12", "1+0", "0.50"] in rows
    assert ["right", "missing", "-", "-", "-", "-", "-"] in rows
    assert ["alpha", "#2", "left", "completed", "100.0", "differs", "12", "1+0", "0.50"] in rows
    assert told.splitlines()[-1] == "2 of 2 tasks differ in what counts"


def test_nothing_hostile_acts() -> None:
    hostile = TaskSide.model_validate(SIDE.model_dump() | {"failure_reason": HOSTILE})
    told = shown(
        left=HOSTILE,
        settings=(Change(path=HOSTILE, left=HOSTILE, right=""),),
        packages=PackageChanges(added=(HOSTILE,)),
        tasks=(
            task(
                task_id=HOSTILE,
                left=hostile,
                divergence=CallDivergence(position=1, left=HOSTILE, right=""),
            ),
        ),
    )
    assert not set(told) & {"\x1b", "\x07", "\u202e"}
    assert told.count(r"\x1b]0;owned\x07[red]\u202e") == 8
