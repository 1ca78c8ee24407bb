from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from runner.domain import (
    Artifact,
    CriterionScore,
    EventKind,
    ExecutionStatus,
    FailureReason,
    Score,
    TaskExecution,
)
from runner.records import RunDirectory, list_runs, load_run, load_trace, trace_path
from runner.reporting import (
    console_for,
    render_attempt,
    render_result,
    render_run,
    render_runs,
    render_suite,
    render_suites,
    render_trace,
)
from tests.unit.records.nouns import ANSWER, RUN_ID, benchmark, event, execution, plan, reply, task

HOSTILE = "[red]x[/red] \x1b[2J\x1b]0;owned\x07 \u202etxt :smile: [link=http://evil]y[/link] \x9b"
SCORE = Score(
    raw=0,
    maximum=1,
    criteria=(CriterionScore(name=HOSTILE, scorer="exact", weight=1, points=0, detail=HOSTILE),),
)


def hostile(**changes: object) -> TaskExecution:
    fields = {
        "status": ExecutionStatus.RESOURCE_EXCEEDED,
        "failure_reason": FailureReason.TOKEN_BUDGET_EXCEEDED,
        "failure_detail": HOSTILE * 3,
        "output": HOSTILE + "\nsecond line " + "word " * 300,
        "score": SCORE,
        "artifacts": (Artifact(path=HOSTILE, skipped=HOSTILE),),
        "task_id": "a-task-whose-name-is-as-long-as-it-may-be-" + "x" * 58,
    }
    return execution(**(fields | changes))


def shown(render: Callable[[Console], None], *, width: int = 80, colour: bool = False) -> str:
    stream = io.StringIO()
    render(
        Console(
            file=stream,
            width=width,
            force_terminal=colour,
            color_system="standard" if colour else None,
            markup=False,
            emoji=False,
            highlight=False,
        )
    )
    return stream.getvalue()


def kept(root: Path, *executions: TaskExecution) -> Path:
    directory = RunDirectory(root, RUN_ID)
    directory.begin(plan())
    for each in executions:
        directory.keep(each, reply(), directory.staging())
    directory.event(event(EventKind.TASK_FINISHED, task_id="reasoning-1", repeat=1))
    directory.close()
    return directory.path


def every_display(root: Path) -> list[Callable[[Console], None]]:
    run = kept(root, hostile())
    agent = benchmark(hostile()).model_copy(update={"agent_name": HOSTILE})
    suite = plan().suite.model_copy(update={"description": HOSTILE, "name": HOSTILE})
    spans = load_trace(trace_path(run, hostile().task_id))
    return [
        lambda console: render_result(agent, console, evidence=Path(HOSTILE)),
        lambda console: render_attempt(hostile(), console, evidence=Path(HOSTILE)),
        lambda console: render_runs(list_runs(root), console),
        lambda console: render_run(load_run(root, RUN_ID), console),
        lambda console: render_trace(spans, console),
        lambda console: render_suite(suite, console),
        lambda console: render_suites([suite], console),
    ]


@pytest.mark.parametrize("number", range(7))
def test_no_display_lets_hostile_text_through(tmp_path: Path, number: int) -> None:
    display = every_display(tmp_path)[number]
    plain = shown(display)
    assert all(line.isprintable() for line in plain.split("\n"))
    coloured = shown(display, colour=True)
    assert "\x1b[2J" not in coloured
    assert "\x1b]" not in coloured
    assert "\x07" not in coloured
    assert "😄" not in coloured
    if number in (0, 1, 4, 5, 6):
        assert "[red]x[/red]" in plain.replace("\n", "")
        assert ":smile:" in plain.replace("\n", "")


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("number", range(7))
def test_every_display_fits_the_terminal(tmp_path: Path, number: int, width: int) -> None:
    text = shown(every_display(tmp_path)[number], width=width)
    assert max(cell_len(line) for line in text.splitlines()) <= width


def test_the_result_at_eighty_columns() -> None:
    one = execution(task_id="reasoning-arith-01", artifacts=())
    two = hostile(task_id="reasoning-02", failure_detail="1 oom kill at 512 MiB", score=None)
    text = shown(
        lambda console: render_result(benchmark(one, two), console, evidence=Path("runs/x"))
    )
    rows = [line.rstrip() for line in text.splitlines()]
    assert rows[0].split() == ["task", "outcome", "score", "time", "s", "cpu", "s", "peak", "MB"]
    [first] = [row for row in rows if "reasoning-arith-01" in row]
    assert first.split() == ["reasoning-arith-01", "◐", "partly", "75.0", "0.50", "0.00", "12"]
    [second] = [row for row in rows if "token_budget_exceeded" in row]
    assert second.split()[:4] == ["reasoning-02", "▲", "token_budget_exceeded", "-"]
    assert "▲ reasoning-02  1 oom kill at 512 MiB" in rows
    [category] = [row for row in rows if "1 of 2" in row]
    assert category.split()[:5] == ["reasoning", "1", "of", "2", "37.5"]
    assert any(row.split() == ["overall", "37.5", "of", "100"] for row in rows)
    assert any(row.split() == ["evidence", "runs/x"] for row in rows)


def test_a_timeline_has_offsets_durations_and_judgements(tmp_path: Path) -> None:
    run = kept(tmp_path, execution(output="forty\ntwo"))
    text = shown(lambda console: render_trace(load_trace(trace_path(run, "reasoning-1")), console))
    [ask] = [line for line in text.splitlines() if line.rstrip().endswith("  ask")]
    assert ask.split()[:2] == ["+0.250", "0.500"]
    assert "    forty" in text
    assert "    two" in text
    assert "evaluation  total  0.75  partial" in text
    assert "empty" in shown(lambda console: render_trace((), console))


def test_a_circle_of_spans_is_shown_once(tmp_path: Path) -> None:
    run = kept(tmp_path, execution())
    first, second, third = load_trace(trace_path(run, "reasoning-1"))
    circle = [
        first.model_copy(update={"parent_span_id": third.span_id}),
        second,
        third.model_copy(update={"parent_span_id": first.span_id}),
    ]
    text = shown(lambda console: render_trace(circle, console))
    assert text.count("  ask") == 1


def test_a_suite_is_shown_without_its_answers() -> None:
    text = shown(lambda console: render_suite(plan(RUN_ID, task("reasoning-9")).suite, console))
    assert "reasoning-9" in text
    assert ANSWER not in text


def test_no_runs_yet() -> None:
    assert "No runs yet" in shown(lambda console: render_runs([], console))


def test_no_colour_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = io.StringIO()
    render_result(benchmark(), console_for(coloured))
    assert "\x1b[33m" in coloured.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = io.StringIO()
    render_result(benchmark(), console_for(plain))
    assert "\x1b[3" not in plain.getvalue()


def test_an_ascii_terminal_gets_ascii_symbols() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    render_result(benchmark(execution(failure_detail="Größe")), console_for(stream))
    stream.flush()
    text = raw.getvalue().decode("ascii")
    assert "~ partly" in text
    assert "Gr\\xf6\\xdfe" in text
