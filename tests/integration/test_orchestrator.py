"""The public Python API of queue and workers, as it is documented, on a real engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from runner import (
    AgentEndpoint,
    BenchmarkCategory,
    BenchmarkOrchestrator,
    BenchmarkSubmission,
    ExecutionProgress,
    ExecutionStatus,
    SubmissionHandler,
    TaskExecutor,
)
from runner.bootstrap.storing import store_of
from runner.domain import BreakerState, EventKind, Job, JobState, QueueStatus, QuotaState
from runner.errors import InvalidSubmission, QuotaExceeded, StorageFailed, UsageError
from runner.records import load_run, runner_version

RULES = Path(__file__).parents[2] / "examples/rule_based"
PLANNING = [BenchmarkCategory.PLANNING]
PATIENCE_SECONDS = 60
"""How long progress may take before the test is given up; when all is well, none takes that."""
TWO = [BenchmarkCategory.PLANNING, BenchmarkCategory.ROBUSTNESS]


@pytest.fixture(autouse=True)
def somewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_agenttrace_environment: None
) -> Path:
    """Settings come from the working directory and the environment, as a user's do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("AGENTTRACE_QUEUE__POLL_SECONDS", "0.05")
    monkeypatch.setenv("AGENTTRACE_RUN__PARALLELISM", "1")
    return tmp_path


def submission_of(
    categories: Iterable[BenchmarkCategory], submitter: str = "user_123"
) -> BenchmarkSubmission:
    return BenchmarkSubmission(
        agent_name="MyAgent",
        agent_version="1.0.0",
        contact_email="me@example.com",
        agent_endpoint=AgentEndpoint(
            endpoint_type="local", source=RULES, module_path="agent", function_name="answer"
        ),
        categories=tuple(categories),
        terms_accepted=True,
        submitted_by=submitter,
    )


class Watched:
    """Progress as a callback gets it, and a way to wait for some of it."""

    def __init__(self) -> None:
        self.all: list[ExecutionProgress] = []
        self._came = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, progress: ExecutionProgress) -> None:
        self.all.append(progress)
        task = asyncio.get_running_loop().create_task(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self._came:
            self._came.notify_all()

    async def until(self, condition: Callable[[ExecutionProgress], bool], times: int = 1) -> None:
        """Returns when progress has been such for so many runs."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._came:
            await self._came.wait_for(
                lambda: len({one.run_id for one in self.all if condition(one)}) >= times
            )

    async def ended(self, times: int = 1) -> None:
        await self.until(lambda one: one.status is ExecutionStatus.COMPLETED, times)


async def until_settled(orchestrator: BenchmarkOrchestrator) -> QueueStatus:
    """The last progress comes a moment before the queue knows of it."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            status = orchestrator.get_queue_status()
            if not (status.queue_size or status.active_executions):
                return status
            await asyncio.sleep(0.02)


def orchestrator_of(handler: SubmissionHandler, watched: Watched) -> BenchmarkOrchestrator:
    orchestrator = BenchmarkOrchestrator(handler, TaskExecutor(), num_workers=3)
    orchestrator.register_progress_callback(watched)
    return orchestrator


def job_of(handler: SubmissionHandler, job: Job) -> Job:
    with store_of(handler.settings) as store:
        return store.queue.job(job.run_id)


@pytest.mark.docker
async def test_checked_queued_and_worked_off(somewhere: Path) -> None:
    submission = submission_of(PLANNING)
    handler = SubmissionHandler()
    result = await handler.validate_submission(submission)
    assert result.is_valid, result.errors
    assert (len(result.checks_performed), result.warnings) == (11, [])
    job = await handler.queue_submission(submission)
    assert job.state is JobState.QUEUED

    executor = TaskExecutor(enable_retries=True, max_retries=2)
    orchestrator = BenchmarkOrchestrator(handler, executor, num_workers=3)
    before = orchestrator.get_queue_status()
    assert (before.queue_size, before.active_executions, before.workers) == (1, 0, ())
    watched, during = Watched(), list[QueueStatus]()
    orchestrator.register_progress_callback(watched)
    orchestrator.register_progress_callback(
        lambda _: during.append(orchestrator.get_queue_status())
    )
    await orchestrator.start()
    await watched.ended()
    after = await until_settled(orchestrator)
    await orchestrator.stop(graceful=True)

    percentages = [progress.progress_percentage() for progress in watched.all]
    assert percentages == sorted(percentages)
    assert (percentages[0], percentages[-1]) == (0.0, 100.0)
    assert {progress.run_id for progress in watched.all} == {job.run_id}
    assert {(status.queue_size, status.active_executions) for status in during} == {(0, 1)}
    [worker] = during[-1].workers
    assert (worker.slots, worker.draining) == (3, False)
    assert [one.run_id for one in during[-1].jobs] == [job.run_id]
    assert {one.breaker.state for one in during[-1].circuit_breakers} <= {BreakerState.CLOSED}
    assert (after.finished, after.failed) == (1, 0)
    assert orchestrator.get_queue_status().workers == ()

    run = load_run(somewhere / "runs", job.run_id)
    assert run.execution
    assert run.execution.status is ExecutionStatus.COMPLETED
    assert run.execution.runner_version == runner_version()
    assert set(run.execution.category_executions) == set(PLANNING)
    with store_of(handler.settings) as store:
        assert store.ledger.result(job.run_id) == run.execution
        [entry] = store.queue.quota_entries("user_123")
        assert (entry.run_id, entry.state) == (job.run_id, QuotaState.COMMITTED)


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("graceful", [True, False])
async def test_what_was_stopped_waits_and_another_one_ends_it(
    somewhere: Path, graceful: bool
) -> None:
    handler, watched = SubmissionHandler(), Watched()
    job = await handler.queue_submission(submission_of(TWO))
    first = orchestrator_of(handler, watched)
    await first.start()
    await watched.until(lambda one: one.completed_tasks >= 2)
    await first.stop(graceful=graceful)
    waiting = job_of(handler, job)
    assert (waiting.state, waiting.losses) == (JobState.QUEUED, 0)
    assert not (somewhere / "runs" / job.run_id / "execution.json").exists()
    with store_of(handler.settings) as store:
        judged_before = store.ledger.kept(job.run_id)
    assert len(judged_before) >= 2

    seen = Watched()
    second = orchestrator_of(handler, seen)
    await second.start()
    await seen.ended()
    await until_settled(second)
    await second.stop()
    finished = job_of(handler, job)
    assert (finished.state, finished.claims) == (JobState.FINISHED, 2)
    run = load_run(somewhere / "runs", job.run_id)
    assert run.execution
    tasks = run.execution.task_executions
    assert {one.status for one in tasks} == {ExecutionStatus.COMPLETED}
    assert len(tasks) == watched.all[0].total_tasks
    kinds = [event.kind for event in run.events]
    assert kinds.count(EventKind.RUN_STARTED) == kinds.count(EventKind.RUN_RESUMED) == 1
    with store_of(handler.settings) as store:
        kept = store.ledger.kept(job.run_id)
    assert judged_before.items() <= kept.items()
    assert len(kept) == len(tasks), "what had a verdict was not run again"


@pytest.mark.docker
@pytest.mark.slow
async def test_two_in_one_event_loop_share_a_queue(somewhere: Path) -> None:
    handler, watched = SubmissionHandler(), Watched()
    jobs = [await handler.queue_submission(submission_of(PLANNING, f"u{i}")) for i in range(4)]
    orchestrators = [BenchmarkOrchestrator(handler, TaskExecutor(), 1) for _ in range(2)]
    for orchestrator in orchestrators:
        orchestrator.register_progress_callback(watched)
    await asyncio.gather(*(each.start() for each in orchestrators))
    await watched.until(lambda one: one.status is ExecutionStatus.RUNNING, times=2)
    assert len(orchestrators[0].get_queue_status().workers) == 2
    await watched.ended(times=4)
    status = await until_settled(orchestrators[0])
    await asyncio.gather(*(each.stop() for each in orchestrators))
    assert (status.finished, status.failed) == (4, 0)
    done = [job_of(handler, job) for job in jobs]
    assert [(one.claims, one.losses) for one in done] == [(1, 0)] * 4
    assert len({one.worker for one in done}) == 2


# -- without an engine ----------------------------------------------------------------------------


async def test_it_is_started_once_and_stopped_as_often_as_one_likes() -> None:
    orchestrator = BenchmarkOrchestrator(SubmissionHandler(), TaskExecutor(), num_workers=2)
    await orchestrator.stop()
    await orchestrator.start()
    with pytest.raises(UsageError, match="was started"):
        await orchestrator.start()
    await asyncio.gather(orchestrator.stop(), orchestrator.stop(graceful=False))
    await orchestrator.stop()
    assert orchestrator.get_queue_status().workers == ()
    await orchestrator.start()
    await orchestrator.stop()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_what_cannot_be_started_leaves_nothing_behind(somewhere: Path) -> None:
    orchestrator = BenchmarkOrchestrator(SubmissionHandler(), TaskExecutor())
    workers = somewhere / "state/agenttrace/workers"
    workers.parent.mkdir(parents=True)
    workers.write_text("in the way")
    before = open_files()
    with pytest.raises(StorageFailed, match="cannot write in"):
        await orchestrator.start()
    assert open_files() == before
    workers.unlink()
    await orchestrator.start()
    await orchestrator.stop()


async def test_settings_come_from_where_it_is_called(
    somewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (somewhere / "agenttrace.toml").write_text("[submissions]\nquota_per_day = 17\n")
    monkeypatch.setenv("AGENTTRACE_STORAGE__STATE_DIR", str(somewhere / "elsewhere"))
    handler = SubmissionHandler()
    assert handler.settings.submissions.quota_per_day == 17
    orchestrator = BenchmarkOrchestrator(handler, TaskExecutor())
    assert orchestrator.get_queue_status().queue_size == 0
    assert (somewhere / "elsewhere/agenttrace.db").exists()
    assert not (somewhere / "state").exists()


async def test_what_is_not_valid_is_not_queued() -> None:
    handler = SubmissionHandler()
    wrong = submission_of(PLANNING).model_copy(
        update={"terms_accepted": False, "contact_email": "nobody", "agent_version": "one"}
    )
    endpoint = wrong.agent_endpoint.model_copy(update={"source": Path("/nonexistent")})
    wrong = wrong.model_copy(update={"agent_endpoint": endpoint})
    result = await handler.validate_submission(wrong)
    assert not result.is_valid
    assert len(result.checks_performed) == 11
    failed = {line.partition(":")[0] for line in result.errors}
    assert failed == {"terms_accepted", "email_valid", "endpoint_reachable"}
    assert [line.partition(":")[0] for line in result.warnings] == ["version_format"]
    with pytest.raises(InvalidSubmission, match="terms_accepted"):
        await handler.queue_submission(wrong)
    assert BenchmarkOrchestrator(handler, TaskExecutor()).get_queue_status().queue_size == 0


@pytest.mark.docker
async def test_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTTRACE_SUBMISSIONS__QUOTA_PER_DAY", "1")
    handler = SubmissionHandler()
    await handler.queue_submission(submission_of(PLANNING))
    with pytest.raises(QuotaExceeded, match="user_123"):
        await handler.queue_submission(submission_of(PLANNING))
    await handler.queue_submission(submission_of(PLANNING, "user_456"))


@pytest.mark.docker
async def test_a_callback_that_fails_does_the_run_no_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handler, watched = SubmissionHandler(), Watched()
    await handler.queue_submission(submission_of(PLANNING))

    def fail(_: ExecutionProgress) -> None:
        raise ZeroDivisionError

    orchestrator = BenchmarkOrchestrator(handler, TaskExecutor())
    orchestrator.register_progress_callback(fail)
    orchestrator.register_progress_callback(watched)
    await orchestrator.start()
    await watched.ended()
    status = await until_settled(orchestrator)
    await orchestrator.stop()
    assert (status.finished, status.failed) == (1, 0)
    assert "a progress callback failed" in caplog.text
