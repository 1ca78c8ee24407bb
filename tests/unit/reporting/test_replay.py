"""A replay beside what was recorded, on a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from runner.reporting.replay import ReplayLine, render_replay


def line(**changes: Any) -> ReplayLine:
    fields: dict[str, Any] = {"task_id": "alpha", "repeat": 1, "exchanges": 3, "differences": ()}
    return ReplayLine(**(fields | changes))


def shown(*lines: ReplayLine, run: str = "r1") -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=120, markup=False, emoji=False, highlight=False)
    render_replay(lines, run, console)
    return stream.getvalue()


def test_each_task_has_a_verdict_and_the_run_a_sum() -> None:
    told = shown(
        line(),
        line(task_id="beta", repeat=2, differences=("output: 1 != 2",)),
        line(task_id="gamma", diverged_at=2, side_by_side=[("a", "b")]),
    )
    rows = [row.split() for row in told.splitlines()[2:5]]
    assert rows == [
        ["alpha", "1", "3", "identical"],
        ["beta", "2", "3", "different"],
        ["gamma", "1", "3", "diverged", "at", "call", "2"],
    ]
    assert told.splitlines()[-1] == "1 of 3 identical to run r1"


def test_differences_say_which_side_is_which() -> None:
    told = shown(line(differences=("output: 1 != 2", "score: 3 != 4")))
    start = told.splitlines().index("alpha, repeat 1")
    assert told.splitlines()[start + 1 : start + 4] == [
        "  recorded != replayed",
        "  output: 1 != 2",
        "  score: 3 != 4",
    ]


def test_both_requests_are_beside_each_other() -> None:
    told = shown(line(diverged_at=1, side_by_side=[("same", "same"), ("then", "now")]))
    rows = [row.split() for row in told.splitlines()]
    assert ["RECORDED", "REQUESTED"] in rows
    assert ["then", "now"] in rows


def test_a_recording_that_was_over_has_no_side() -> None:
    told = shown(line(diverged_at=4, was_over=True, side_by_side=[("", "asked")]))
    assert "call 4 was asked when nothing of the recording was left:\n    asked\n" in told
    assert "RECORDED" not in told


def test_a_divergence_alone_is_no_identity() -> None:
    """A replay of a replay that diverged diverges at the same place, and nothing else differs."""
    assert not line(diverged_at=1).identical
    assert "0 of 1 identical" in shown(line(diverged_at=1))


@pytest.mark.parametrize("field", ["task_id", "differences", "side_by_side"])
@given(text=st.text(st.sampled_from("a[]\x1b\x07\u202e\r:/"), max_size=20))
def test_nothing_acts_on_a_terminal(field: str, text: str) -> None:
    values: dict[str, Any] = {
        "task_id": text,
        "differences": (text,),
        "side_by_side": [(text, text + "x")],
    }
    told = shown(line(diverged_at=1, **{field: values[field]}), run=text)
    assert not set(told) & set("\x1b\x07\u202e\r")
