"""A request becomes a plan: submission, tasks, image, order, limits."""

from __future__ import annotations

import fnmatch
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from runner.bootstrap.host import Host, base_image_running, capacity_of, images_of
from runner.bootstrap.request import RunRequest
from runner.config import Settings, settings_as_data
from runner.domain import (
    BenchmarkCategory,
    BenchmarkSubmission,
    BenchmarkTask,
    LimitOverrides,
    RunPlan,
    Suite,
)
from runner.errors import UsageError
from runner.evaluation import Admission
from runner.evaluation.preflight import greet
from runner.intake import image_submission, load_submission
from runner.ports import Say, SuiteCatalog
from runner.records import DeterministicTaskOrdering, EnvironmentSnapshot
from runner.records.layout import new_run_id
from runner.records.snapshot import runner_version
from runner.suites import DirectoryCatalog


def catalog(settings: Settings) -> SuiteCatalog:  # noqa: ARG001 - others will need them
    """The suites that can be run by name."""
    return DirectoryCatalog()


async def make_plan(
    host: Host,
    request: RunRequest,
    submission: BenchmarkSubmission,
    say: Say,
    tasks: Sequence[BenchmarkTask] = (),
) -> RunPlan:
    """What is to be run; the image is built, and has been seen to start.

    `tasks` take the place of those that `request` chooses of its suite. Raises RunnerError.
    """
    settings = host.settings
    suite = catalog(settings).load(request.suite or settings.run.suite)
    chosen = list(tasks) or _chosen(suite, submission, request)
    seed = _seed(request, submission)
    ordered = tuple(DeterministicTaskOrdering.order_tasks(chosen, seed))[: request.limit]
    _check_capacity(host, ordered)
    image = await images_of(host).prepare(submission, say)
    known_good = base_image_running(host, ("true",))
    await greet(image, known_good, settings.limits, host.sandbox, host.transport)
    now = datetime.now(UTC)
    return RunPlan(
        run_id=new_run_id(now, secrets.token_bytes(3)),
        submission=submission,
        suite=suite,
        tasks=ordered,
        repeats=request.repeats or settings.run.repeats,
        parallelism=request.parallelism or settings.run.parallelism,
        seed=seed,
        limits=settings.limits,
        image=image,
        settings=settings_as_data(settings),
        environment=_environment(host, seed),
        runner_version=runner_version(),
        started_at=now,
    )


def _check_capacity(host: Host, tasks: Sequence[BenchmarkTask]) -> None:
    """Raises InsufficientResources before anything is built or written for what cannot be run."""
    admission = Admission(capacity_of(host))
    for limits in {task.limits.applied_to(host.settings.limits) for task in tasks}:
        admission.check(limits)


def submission_of(request: RunRequest) -> BenchmarkSubmission:
    """What the request names; raises InvalidSubmission, UsageError. Needs no engine."""
    details: dict[str, Any] = {
        "interface": request.interface,
        "command": request.command,
        "port": request.port,
    }
    if request.image:
        return image_submission(request.image, **details)
    if request.target:
        return load_submission(request.target, **details)
    raise UsageError("nothing to evaluate", remedy="name a directory, FILE.py:FUNCTION or an image")


def _seed(request: RunRequest, submission: BenchmarkSubmission) -> int:
    if request.seed is not None:
        return request.seed
    return DeterministicTaskOrdering.seed_from_submission_id(submission.submission_id)


def _chosen(
    suite: Suite, submission: BenchmarkSubmission, request: RunRequest
) -> list[BenchmarkTask]:
    """The tasks asked for, under the command line's limits; raises UsageError if none is left."""
    categories = request.categories or submission.categories or tuple(BenchmarkCategory)
    chosen = [
        _overridden(task, request)
        for task in suite.tasks
        if task.category in categories and _matches(task, request.tasks)
    ]
    if not chosen:
        raise UsageError(
            f"no task of suite {suite.name} is asked for",
            remedy=f"see `agenttrace suite show {suite.name}`",
        )
    return chosen


def _matches(task: BenchmarkTask, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(task.task_id, p) for p in patterns)


def _overridden(task: BenchmarkTask, request: RunRequest) -> BenchmarkTask:
    given = LimitOverrides.model_validate(task.limits.given() | request.overrides.given())
    budget = request.token_budget or task.token_budget
    return task.model_copy(update={"limits": given, "token_budget": budget})


def _environment(host: Host, seed: int) -> dict[str, Any]:
    info = host.client.info
    engine = {name: getattr(info, name) for name in ("version", "kernel", "cgroup_version", "tier")}
    return EnvironmentSnapshot.capture(seed, engine=engine).model_dump(mode="json")
