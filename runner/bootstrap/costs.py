"""What was spent, and what a run is going to use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from runner.bootstrap.planning import catalog, chosen_tasks, submission_of
from runner.bootstrap.request import RunRequest
from runner.bootstrap.running import run
from runner.config import Settings
from runner.domain.cost import Forecast, SpendingBy, SpendingReport
from runner.ports import Notify, Say
from runner.records.forecast import Planned, forecast
from runner.records.history import history_of, identity_of, load_history
from runner.records.spending import spending_report


def cost_report(settings: Settings, by: SpendingBy, since: date | None = None) -> SpendingReport:
    """What all runs in `storage.runs_dir` have spent on models; needs neither engine nor store."""
    return spending_report(settings.storage.runs_dir.expanduser(), by, since)


def estimate_cost(
    settings: Settings,
    request: RunRequest,
    *,
    interval: float = 0.8,
    pilot: int | None = None,
    observers: Sequence[Notify] = (),
    say: Say = lambda _: None,
) -> Forecast:
    """What the run that `request` asks for will use, from the runs that are there.

    With `pilot`, so many of its tasks are run first, once each, and the forecast rests on them
    alone. Raises RunnerError; of a pilot as `run` does.
    """
    submission = submission_of(request)
    suite = catalog(settings).load(request.suite or settings.run.suite)
    tasks = chosen_tasks(suite, submission, request)
    planned = Planned(
        agent_name=submission.agent_name,
        suite_name=suite.name,
        tasks=tasks,
        repeats=request.repeats or settings.run.repeats,
        parallelism=request.parallelism or settings.run.parallelism,
    )
    agent = identity_of(submission)
    if pilot is None:
        root = (request.output or settings.storage.runs_dir).expanduser()
        return forecast(planned, load_history(root, agent, suite, tasks), interval)
    path = _piloted(settings, request, min(pilot, len(tasks)), observers, say)
    made = forecast(planned, history_of([path], agent), interval)
    return made.model_copy(update={"pilot": path.name})


def _piloted(
    settings: Settings, request: RunRequest, tasks: int, observers: Sequence[Notify], say: Say
) -> Path:
    """The directory of an ordinary run of the first tasks, in which nothing comes from a cache."""
    reuse = {"reuse": False}
    caches = {"cache_models": False, "cache_tools": False}
    fresh = settings.model_copy(
        update={
            "run": settings.run.model_copy(update=reuse),
            "gateway": settings.gateway.model_copy(update=caches),
        }
    )
    _, path = run(fresh, replace(request, limit=tasks, repeats=1), observers, say)
    return path
