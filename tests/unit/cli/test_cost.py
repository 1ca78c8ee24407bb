"""`agenttrace cost`: options in, one call, a report or a forecast out."""

from __future__ import annotations

import csv
import inspect
import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from runner.bootstrap.request import RunRequest
from runner.cli.cost import GROUPS
from runner.domain import BenchmarkCategory, EventKind, RunEvent
from runner.domain.cost import Basis, Figure, Forecast, SpendingBy, TaskForecast
from runner.domain.gateway import Spending
from runner.errors import SpendingLimitReached
from runner.records import RunDirectory
from runner.records.spending import SpendingJournal
from tests.unit.records.nouns import plan

from .conftest import FakeBootstrap, Outcome

Agenttrace = Callable[..., Outcome]


def spent(root: Path, run_id: str, **changes: Any) -> None:
    directory = RunDirectory(root, run_id)
    path = directory.begin(plan(run_id))
    directory.close()
    fields: dict[str, Any] = {
        "at": "2026-03-14T09:26:00Z",
        "task_id": "t",
        "repeat": 1,
        "upstream": "openai",
        "model": "small",
        "tokens_input": 10,
        "tokens_output": 5,
        "cost_usd": 12.34,
    }
    journal = SpendingJournal(path / "spending.jsonl")
    journal.append(Spending(**(fields | changes)))
    journal.close()


# -- report: the real thing, which needs no engine ----------------------------------------------


def test_the_report_of_an_empty_directory(agenttrace: Agenttrace) -> None:
    shown = agenttrace("cost", "report")
    assert (shown.code, shown.err) == (0, "")
    assert "nothing was spent" in shown.out


def test_the_report_by_model(agenttrace: Agenttrace, tmp_path: Path) -> None:
    spent(tmp_path / "runs", "r1")
    spent(tmp_path / "runs", "r2", cost_usd=None)
    shown = agenttrace("cost", "report")
    assert shown.code == 0
    assert "openai/small" in shown.out
    assert "12.34 USD + 1 call of unknown cost" in shown.out


@pytest.mark.parametrize("option", ["-o", "--output", "--runs-dir"])
def test_the_report_of_another_directory(
    agenttrace: Agenttrace, tmp_path: Path, option: str
) -> None:
    spent(tmp_path / "elsewhere", "r1")
    data = json.loads(
        agenttrace("cost", "report", option, "elsewhere", "--by", "run", "--json").out
    )
    assert [group["name"] for group in data["groups"]] == ["r1"]
    assert (data["by"], data["total"]["cost_usd"]) == ("run", 12.34)


def test_the_report_since_a_day_as_csv(agenttrace: Agenttrace, tmp_path: Path) -> None:
    spent(tmp_path / "runs", "r1", model="=HYPERLINK(1)", upstream="=x")
    spent(tmp_path / "runs", "r2", at="2026-03-13T23:59:59Z")
    shown = agenttrace("cost", "report", "--since", "2026-03-14", "--csv")
    [row] = csv.DictReader(io.StringIO(shown.out))
    assert row["model"] == "'=x/=HYPERLINK(1)"
    assert row["calls"] == "1"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("report --by colour", "colour"),
        ("report --since soon", "soon"),
        ("report --csv --json", "either --csv or --json"),
        ("estimate", "either SUBMISSION or --image"),
        ("estimate dir --pilot 0", "--pilot"),
        ("estimate dir --interval 1", "--interval"),
        ("estimate dir --port 80", "--port belongs to --image"),
    ],
)
def test_options_that_cannot_be(agenttrace: Agenttrace, line: str, complaint: str) -> None:
    shown = agenttrace("cost", *line.split())
    assert shown.code == 2
    assert complaint in shown.err


# -- estimate ------------------------------------------------------------------------------------


FORECAST = Forecast(
    agent_name="echo",
    suite_name="starter",
    attempts=1,
    parallelism=3,
    interval=0.8,
    tokens_total=Figure(low=1, median=2, high=3),
    tasks=(TaskForecast(task_id="reasoning-001", basis=Basis.SAME_TASK, samples=1),),
    samples=1,
    runs=1,
)


@pytest.fixture
def estimating(bootstrap: FakeBootstrap, monkeypatch: pytest.MonkeyPatch) -> FakeBootstrap:
    module: Any = sys.modules["runner.bootstrap"]
    monkeypatch.setattr(module, "estimate_cost", bootstrap.answer("estimate_cost"), raising=False)
    monkeypatch.setattr(module, "RunRequest", RunRequest)
    bootstrap.answers["estimate_cost"] = FORECAST
    return bootstrap


def asked(estimating: FakeBootstrap) -> tuple[Any, RunRequest, dict[str, Any]]:
    [(_, (settings, request), named)] = [c for c in estimating.calls if c[0] == "estimate_cost"]
    return settings, request, named


def test_estimate_without_options(agenttrace: Agenttrace, estimating: FakeBootstrap) -> None:
    shown = agenttrace("cost", "estimate", "some/dir")
    assert (shown.code, shown.err) == (0, "")
    assert "2 (1 to 3)" in shown.out
    settings, request, named = asked(estimating)
    assert (request.target, request.image, request.suite) == ("some/dir", None, "starter")
    assert (request.limit, request.repeats, request.parallelism) == (None, 1, 3)
    assert (named["interval"], named["pilot"]) == (0.8, None)
    assert settings.storage.runs_dir == Path("runs")


def test_estimate_with_every_option(agenttrace: Agenttrace, estimating: FakeBootstrap) -> None:
    shown = agenttrace(
        *("cost", "estimate", "--image", "repo/agent:1", "--interface", "http", "--port", "9000"),
        *("--command", "python agent.py", "--suite", "other", "-c", "reasoning", "-t", "reason*"),
        *("-l", "5", "-n", "2", "-k", "4", "--seed", "7", "--pilot", "3", "--interval", "0.5"),
        *("--model", "openai/*", "--max-cost", "1.5", "--max-tokens", "1000", "-q"),
        *("--runs-dir", "elsewhere", "--profile", "competition"),
    )
    assert shown.code == 0, shown.err
    settings, request, named = asked(estimating)
    assert (request.target, request.image, request.interface) == (None, "repo/agent:1", "http")
    assert (request.command, request.port) == (("python", "agent.py"), 9000)
    assert (request.suite, request.tasks) == ("other", ("reason*",))
    assert request.categories == (BenchmarkCategory.REASONING,)
    assert (request.limit, request.parallelism, request.repeats) == (5, 2, 4)
    assert request.seed == 7
    assert (named["interval"], named["pilot"]) == (0.5, 3)
    assert settings.gateway.models == ("openai/*",)
    assert (settings.run.max_cost_usd, settings.run.max_tokens) == (1.5, 1000)
    assert settings.storage.runs_dir == Path("elsewhere")


def test_an_estimate_as_data_has_nulls_for_what_is_unknown(
    agenttrace: Agenttrace, estimating: FakeBootstrap
) -> None:
    shown = agenttrace("cost", "estimate", "dir", "--json")
    data = json.loads(shown.out)
    assert data["tokens_total"] == {"low": 1, "median": 2, "high": 3}
    assert data["cost_usd"] is None


def test_nothing_known_is_no_error(agenttrace: Agenttrace, estimating: FakeBootstrap) -> None:
    nothing = FORECAST.model_copy(
        update={
            "samples": 0,
            "tokens_total": None,
            "tasks": (TaskForecast(task_id="reasoning-001", basis=Basis.NOTHING),),
        }
    )
    estimating.answers["estimate_cost"] = nothing
    shown = agenttrace("cost", "estimate", "dir")
    assert shown.code == 0
    assert "--pilot 3" in shown.out


@pytest.mark.parametrize(("quiet", "told"), [([], True), (["-q"], False)])
def test_a_pilot_is_watched_on_stderr(
    agenttrace: Agenttrace, estimating: FakeBootstrap, quiet: list[str], told: bool
) -> None:
    def estimate(*_: Any, observers: Any, say: Callable[[str], None], **__: Any) -> Forecast:
        say("building the image")
        at = datetime(2026, 3, 14, tzinfo=UTC)
        observers[0](RunEvent(kind=EventKind.RUN_STARTED, at=at, run_id="r1", data={"total": 3}))
        return FORECAST

    estimating.answers["estimate_cost"] = estimate
    shown = agenttrace("cost", "estimate", "dir", "--pilot", "3", *quiet)
    assert shown.code == 0
    assert ("building the image" in shown.err) is told
    assert "building" not in shown.out


def test_a_mistyped_selection_is_told(agenttrace: Agenttrace, estimating: FakeBootstrap) -> None:
    shown = agenttrace("cost", "estimate", "dir", "-t", "zzz*")
    assert shown.code == 2
    assert "has no task that fits 'zzz*'" in shown.err


def test_a_pilot_that_spent_its_budget(agenttrace: Agenttrace, estimating: FakeBootstrap) -> None:
    estimating.answers["estimate_cost"] = SpendingLimitReached("the budget is spent")
    assert agenttrace("cost", "estimate", "dir", "--pilot", "3").code == 4


def test_the_groups_of_the_command_are_those_of_the_report() -> None:
    assert tuple(each.value for each in SpendingBy) == GROUPS


def test_the_real_calls_fit() -> None:
    from runner.bootstrap import costs

    named = {"interval": 0.8, "pilot": None, "observers": [], "say": print}
    inspect.signature(costs.estimate_cost).bind(object(), object(), **named)
    inspect.signature(costs.cost_report).bind(object(), SpendingBy.DAY, date(2026, 3, 14))
