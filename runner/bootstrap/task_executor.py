"""The public Python API of a run."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from runner.bootstrap.gateway import opened_gateway
from runner.bootstrap.host import host_for
from runner.bootstrap.image_use import image_held
from runner.bootstrap.planning import make_plan
from runner.bootstrap.request import RunRequest
from runner.bootstrap.running import executor_of, local_breakers, local_gate, recorded
from runner.config import Loaded, Settings, load_settings
from runner.domain import (
    BenchmarkCategory,
    BenchmarkExecution,
    BenchmarkSubmission,
    BenchmarkTask,
    CategoryExecution,
    TaskExecution,
)
from runner.evaluation import Executor, StopSignal
from runner.ports import Notify, Say


class TaskExecutor:
    """Runs tasks from Python; the command line's `run` does the same.

    Each call makes its own plan, run directory and containers, and leaves only the directory.
    """

    def __init__(
        self,
        *,
        enable_retries: bool = True,
        max_retries: int = 2,
        suite: str | None = None,
        settings: Settings | None = None,
        say: Say = lambda _: None,
        observers: Sequence[Notify] = (),
    ) -> None:
        given = settings or _default_settings().settings
        retries = max_retries if enable_retries else 0
        chosen = {"retries": retries, "suite": suite or given.run.suite}
        run = given.run.model_copy(update=chosen)
        self.settings = given.model_copy(update={"run": run})
        self._say = say
        self.observers = tuple(observers)
        self.last_run: Path | None = None
        """The run directory of the last call."""

    async def execute_task(
        self, submission: BenchmarkSubmission, task: BenchmarkTask, repeat: int = 1
    ) -> TaskExecution:
        """The final attempt at one task, of this executor's suite or not."""
        async with self._executor(submission, RunRequest(), [task]) as executor:
            executions: list[TaskExecution] = []
            try:
                executions.append(await executor.execute_task(task, repeat))
            finally:
                executor.finish(executor.result(executions, expected=1))
            return executions[0]

    async def execute_category(
        self,
        submission: BenchmarkSubmission,
        category: BenchmarkCategory,
        parallelism: int = 3,
    ) -> CategoryExecution:
        """All tasks of one category, `parallelism` at once where the host has room."""
        request = RunRequest(categories=(category,), parallelism=parallelism)
        async with self._executor(submission, request) as executor:
            return (await executor.execute_benchmark()).category_executions[category]

    async def execute_benchmark(
        self, submission: BenchmarkSubmission, parallelism: int = 3
    ) -> BenchmarkExecution:
        """All tasks of the submission's categories."""
        request = RunRequest(parallelism=parallelism)
        async with self._executor(submission, request) as executor:
            return await executor.execute_benchmark()

    @asynccontextmanager
    async def _executor(
        self,
        submission: BenchmarkSubmission,
        request: RunRequest,
        tasks: Sequence[BenchmarkTask] = (),
    ) -> AsyncIterator[Executor]:
        settings = self.settings
        async with host_for(settings, submission) as host:
            plan = await make_plan(settings, host, request, submission, self._say, tasks=tasks)
            with image_held(host, plan), recorded(settings, plan) as evidence:
                self.last_run = evidence.path
                breakers = local_breakers(settings)
                async with opened_gateway(settings, plan, evidence.path, breakers) as gateway:
                    yield executor_of(
                        settings,
                        host,
                        plan,
                        evidence=evidence,
                        gate=local_gate(settings, submission),
                        gateway=gateway,
                        observers=self.observers,
                        stop=StopSignal(),
                    )


def _default_settings() -> Loaded:
    return load_settings({}, cwd=Path.cwd(), environ=os.environ)
