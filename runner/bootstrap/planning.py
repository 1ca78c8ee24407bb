"""A request becomes a plan: submission, tasks, image, order, limits."""

from __future__ import annotations

import fnmatch
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.bootstrap.host import Host, base_image_running
from runner.bootstrap.image_use import noted_images
from runner.bootstrap.request import RunRequest
from runner.config import Settings, settings_as_data
from runner.domain import (
    BenchmarkCategory,
    BenchmarkSubmission,
    BenchmarkTask,
    Image,
    LimitOverrides,
    Limits,
    RunPlan,
    Suite,
)
from runner.errors import InvalidSuite, UsageError
from runner.evaluation.preflight import greet
from runner.intake import image_submission, load_submission
from runner.ports import Say, SuiteCatalog
from runner.records import DeterministicTaskOrdering, EnvironmentSnapshot
from runner.records.layout import new_run_id
from runner.records.run_directory import LockedTask, RunLock
from runner.records.snapshot import runner_version
from runner.suites import DirectoryCatalog

ENGINE_FACTS = ("version", "kernel", "cgroup_version", "tier")


def catalog(settings: Settings) -> SuiteCatalog:  # noqa: ARG001 - others will need them
    """The suites that can be run by name."""
    return DirectoryCatalog()


async def make_plan(
    settings: Settings,
    host: Host | None,
    request: RunRequest,
    submission: BenchmarkSubmission,
    say: Say,
    *,
    tasks: Sequence[BenchmarkTask] = (),
    run_id: str | None = None,
) -> RunPlan:
    """What is to be run; the image is built, and has been seen to start.

    `host` is None for an agent behind a URL. `tasks` take the place of those that `request` chooses
    of its suite. `run_id` is that of a job of the queue. Raises RunnerError.
    """
    source = suite_source(request.suite or settings.run.suite)
    suite = catalog(settings).load(source)
    chosen = list(tasks) or _chosen(suite, submission, request)
    seed = _seed(request, submission)
    ordered = _ordered(chosen, seed, request)
    check_tools_of(ordered)
    image = await _image_for(host, submission, ordered, say)
    now = datetime.now(UTC)
    return RunPlan(
        run_id=run_id or new_run_id(now, secrets.token_bytes(3)),
        submission=submission,
        suite=suite,
        suite_source=source,
        tasks=ordered,
        repeats=request.repeats or settings.run.repeats,
        parallelism=request.parallelism or settings.run.parallelism,
        seed=seed,
        limits=settings.limits,
        image=image,
        settings=settings_as_data(settings),
        environment=_environment(host, seed, image, settings.limits, suite),
        runner_version=runner_version(),
        started_at=now,
        queued=run_id is not None,
    )


async def plan_again(
    settings: Settings,
    host: Host | None,
    lock: RunLock,
    submission: BenchmarkSubmission,
    say: Say,
) -> RunPlan:
    """The plan of a run that was begun earlier, as its lock has it: same tasks, order and limits.

    The image is made again where it is gone. Raises UsageError where it, or the suite, is not what
    it was.
    """
    suite = catalog(settings).load(lock.suite_source or lock.suite_name)
    if suite.digest != lock.suite_digest:
        raise UsageError(
            f"suite {suite.name} has changed since run {lock.run_id} was begun",
            remedy="put the suite back as it was, or start a new run",
        )
    tasks = tuple(_locked_task(suite, each) for each in lock.task_order)
    image = await _image_for(host, submission, tasks, say)
    if image and not _same_image(image, lock):
        raise UsageError(
            f"the submission is not what it was when run {lock.run_id} was begun",
            remedy="put it back as it was, or start a new run",
        )
    return RunPlan(
        run_id=lock.run_id,
        submission=submission,
        suite=suite,
        suite_source=lock.suite_source,
        tasks=tasks,
        repeats=lock.repeats,
        parallelism=lock.parallelism,
        seed=lock.seed,
        limits=lock.limits,
        image=image,
        settings=settings_as_data(settings),
        environment=lock.environment,
        runner_version=lock.runner_version,
        started_at=datetime.fromisoformat(lock.started_at),
        replay_of=lock.replay_of,
        queued=lock.queued,
    )


def _locked_task(suite: Suite, locked: LockedTask) -> BenchmarkTask:
    task = next(task for task in suite.tasks if task.task_id == locked.task_id)
    given = {
        "limits": locked.limits,
        "token_budget": locked.token_budget,
        "cost_budget_usd": locked.cost_budget_usd,
    }
    return task.model_copy(update=given)


def check_tools_of(tasks: Sequence[BenchmarkTask]) -> None:
    """Raises InvalidSuite where a task names a tool, or sets one up, that cannot be."""
    with_tools = [task for task in tasks if task.prompt.tools or task.tool_setups]
    if not with_tools:
        return
    from runner.gateway.tools import check_tools  # noqa: PLC0415 - most suites have none

    for task in with_tools:
        try:
            check_tools(task.prompt.tools, task.tool_setups)
        except InvalidSuite as error:
            raise InvalidSuite(
                f"task {task.task_id}: {error.message}", remedy=error.remedy
            ) from None


def _same_image(image: Image, lock: RunLock) -> bool:
    """The same bytes, or made of the same content."""
    same_content = bool(image.content_digest) and image.content_digest == lock.content_digest
    return image.image_id == lock.image_id or same_content


def suite_source(name: str) -> str:
    """What finds the suite again from another working directory."""
    path = Path(name).expanduser()
    return str(path.absolute()) if path.is_dir() else name


async def _image_for(
    host: Host | None,
    submission: BenchmarkSubmission,
    tasks: Sequence[BenchmarkTask],
    say: Say,
) -> Image | None:
    """The submission's image, seen to start; None for an agent that is elsewhere."""
    if host is None:
        return None
    _check_capacity(host, tasks)
    image = await noted_images(host).prepare(submission, say)
    known_good = base_image_running(host, ("true",))
    await greet(image, known_good, host.settings.limits, host.sandbox, host.transport)
    return image


def _check_capacity(host: Host, tasks: Sequence[BenchmarkTask]) -> None:
    """Raises InsufficientResources before anything is built or written for what cannot be run."""
    for limits in {task.limits.applied_to(host.settings.limits) for task in tasks}:
        host.admission.check(limits)


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


def chosen_tasks(
    suite: Suite, submission: BenchmarkSubmission, request: RunRequest
) -> tuple[BenchmarkTask, ...]:
    """Those that a run would be made of, in its order; raises UsageError if none is left."""
    return _ordered(_chosen(suite, submission, request), _seed(request, submission), request)


def _ordered(
    tasks: Sequence[BenchmarkTask], seed: int, request: RunRequest
) -> tuple[BenchmarkTask, ...]:
    return tuple(DeterministicTaskOrdering.order_tasks(tasks, seed))[: request.limit]


def _matches(task: BenchmarkTask, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(task.task_id, p) for p in patterns)


def _overridden(task: BenchmarkTask, request: RunRequest) -> BenchmarkTask:
    given = LimitOverrides.model_validate(task.limits.given() | request.overrides.given())
    budgets = {
        "token_budget": request.token_budget or task.token_budget,
        "cost_budget_usd": request.cost_budget_usd or task.cost_budget_usd,
    }
    return task.model_copy(update={"limits": given} | budgets)


def _environment(
    host: Host | None, seed: int, image: Image | None, limits: Limits, suite: Suite
) -> dict[str, Any]:
    info = host.client.info if host else None
    engine = {name: getattr(info, name) for name in ENGINE_FACTS} if info else {}
    snapshot = EnvironmentSnapshot.capture(
        seed, engine=engine, image=image, limits=limits, suite=suite
    )
    return snapshot.model_dump(mode="json")
