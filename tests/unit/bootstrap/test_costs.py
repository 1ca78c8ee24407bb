"""Forecasts and reports from run directories as they are, with a pilot that is an ordinary run."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runner import bootstrap
from runner.bootstrap import RunRequest, costs
from runner.config import Settings, load_settings
from runner.domain import (
    BenchmarkExecution,
    BenchmarkSubmission,
    BenchmarkTask,
    Limits,
    ResourceUsage,
    RunPlan,
    TaskExecution,
)
from runner.domain.cost import Basis, SpendingBy
from runner.domain.gateway import Spending
from runner.errors import Interrupted, UsageError
from runner.records import RunDirectory
from runner.records.spending import SpendingJournal
from tests.unit.records.nouns import STARTED, benchmark, execution, plan, reply

AGENT = "def answer(prompt: str, config: dict) -> str:\n    return 'x'\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    flags = {
        "storage.runs_dir": str(tmp_path / "runs"),
        "storage.state_dir": str(tmp_path / "state"),
        "run.reuse": True,
        "gateway.cache_models": True,
    }
    return load_settings(flags, cwd=tmp_path, environ={}, profile=None).settings


@pytest.fixture
def request_(tmp_path: Path) -> RunRequest:
    (tmp_path / "agent.py").write_text(AGENT)
    return RunRequest(target=f"{tmp_path / 'agent.py'}:answer", suite="starter", limit=4)


def chosen(settings: Settings, request: RunRequest) -> tuple[BenchmarkTask, ...]:
    from runner.bootstrap.planning import catalog, chosen_tasks

    suite = catalog(settings).load("starter")
    return chosen_tasks(suite, submission(request), request)


def submission(request: RunRequest) -> BenchmarkSubmission:
    from runner.bootstrap.planning import submission_of

    return submission_of(request)


def recorded(
    settings: Settings, request: RunRequest, run_id: str, tokens: int
) -> tuple[BenchmarkExecution, Path]:
    """A run of what `request` asks for, on disk, as `bootstrap.run` leaves it."""
    tasks = chosen(settings, request)
    made: RunPlan = plan(run_id, *tasks).model_copy(update={"submission": submission(request)})
    directory = RunDirectory(settings.storage.runs_dir, run_id)
    path = directory.begin(made)
    executions = [_execution(run_id, task, tokens) for task in tasks]
    for each in executions:
        directory.keep(each, reply(), directory.staging())
    result = benchmark(*executions, run_id=run_id)
    directory.finish(result)
    return result, path


def _execution(run_id: str, task: BenchmarkTask, tokens: int) -> TaskExecution:
    return execution(
        run_id=run_id,
        task_id=task.task_id,
        category=task.category,
        resource_usage=ResourceUsage(tokens_input=tokens),
        finished_at=STARTED + timedelta(seconds=3),
        limits=Limits(),
    )


def test_without_history_nothing_is_known(settings: Settings, request_: RunRequest) -> None:
    found = bootstrap.estimate_cost(settings, request_)
    assert (found.attempts, found.unknown_tasks, found.samples) == (4, 4, 0)
    assert found.tokens_total is None
    assert not settings.storage.runs_dir.exists()  # looking made nothing


def test_history_is_that_of_the_runs_directory(settings: Settings, request_: RunRequest) -> None:
    for number in range(3):
        recorded(settings, request_, f"r{number}", tokens=100)
    found = bootstrap.estimate_cost(settings, request_)
    assert found.tokens_total
    assert (found.tokens_total.low, found.tokens_total.high) == (400, 400)
    assert found.resting_on(Basis.SAME_TASK) == 4
    assert (found.samples, found.runs, found.pilot) == (12, 3, "")
    wider = bootstrap.estimate_cost(settings, RunRequest(target=request_.target, suite="starter"))
    assert wider.resting_on(Basis.SAME_TASK) == 4
    assert wider.resting_on(Basis.SAME_AGENT) == len(wider.tasks) - 4 > 0


class Pilot:
    """In place of `bootstrap.run`, which needs an engine: records what was asked, and a run."""

    def __init__(self, tokens: int = 0, error: BaseException | None = None) -> None:
        self.tokens, self.error = tokens, error
        self.asked: list[tuple[Settings, RunRequest]] = []

    def __call__(
        self, settings: Settings, request: RunRequest, *_: Any
    ) -> tuple[BenchmarkExecution, Path]:
        self.asked.append((settings, request))
        if self.error:
            raise self.error
        return recorded(settings, request, "pilot", self.tokens)


def test_a_pilot_is_run_and_forecast_from_alone(
    settings: Settings, request_: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(settings, request_, "earlier", tokens=1_000_000)
    pilot = Pilot(tokens=100)
    monkeypatch.setattr(costs, "run", pilot)
    found = bootstrap.estimate_cost(settings, request_, pilot=2)
    [(asked, request)] = pilot.asked
    assert (request.limit, request.repeats, request.target) == (2, 1, request_.target)
    assert not asked.run.reuse  # what is not run measures nothing
    assert not asked.gateway.cache_models
    assert found.tokens_total
    assert found.tokens_total.high <= 4 * 200
    assert (found.pilot, found.samples) == ("pilot", 2)
    assert (found.resting_on(Basis.SAME_TASK), found.resting_on(Basis.SAME_AGENT)) == (2, 2)
    piloted = [each.task_id for each in found.tasks if each.basis is Basis.SAME_TASK]
    assert piloted == [each.task_id for each in chosen(settings, request_)[:2]]


def test_a_pilot_of_more_tasks_than_there_are(
    settings: Settings, request_: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    pilot = Pilot()
    monkeypatch.setattr(costs, "run", pilot)
    bootstrap.estimate_cost(settings, request_, pilot=100)
    assert pilot.asked[0][1].limit == 4


def test_a_pilot_that_is_interrupted_ends_as_a_run_does(
    settings: Settings, request_: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "run", Pilot(error=Interrupted("stopped")))
    with pytest.raises(Interrupted):
        bootstrap.estimate_cost(settings, request_, pilot=2)


def test_no_such_task(settings: Settings, request_: RunRequest) -> None:
    with pytest.raises(UsageError, match="no task"):
        bootstrap.estimate_cost(settings, RunRequest(target=request_.target, tasks=("zzz",)))


def test_the_report_is_of_all_runs(settings: Settings, request_: RunRequest) -> None:
    _, path = recorded(settings, request_, "r1", tokens=0)
    journal = SpendingJournal(path / "spending.jsonl")
    for cost in (0.5, None):
        journal.append(
            Spending(
                at="2026-03-14T09:26:00Z",
                task_id="t",
                repeat=1,
                upstream="openai",
                model="small",
                tokens_input=1,
                tokens_output=1,
                cost_usd=cost,
            )
        )
    journal.close()
    found = bootstrap.cost_report(settings, SpendingBy.RUN)
    assert [group.name for group in found.groups] == ["r1"]
    assert (found.total.cost_usd, found.total.unknown_cost_calls) == (0.5, 1)
