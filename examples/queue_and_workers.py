"""Queues a submission and works it off: python examples/queue_and_workers.py [DIRECTORY]."""

import asyncio
import sys
from pathlib import Path

from runner import (
    AgentEndpoint,
    BenchmarkCategory,
    BenchmarkOrchestrator,
    BenchmarkSubmission,
    ExecutionProgress,
    SubmissionHandler,
    TaskExecutor,
)

HERE = Path(__file__).parent


def submission_of(directory: Path) -> BenchmarkSubmission:
    """The agent in `directory`, for the tasks of one category."""
    return BenchmarkSubmission(
        agent_name="MyAgent",
        agent_version="1.0.0",
        contact_email="me@example.com",
        agent_endpoint=AgentEndpoint(
            endpoint_type="local",
            source=directory,
            module_path="agent",
            function_name="answer",
        ),
        categories=[BenchmarkCategory.REASONING],
        terms_accepted=True,
        submitted_by="user_123",
    )


async def main(directory: Path) -> None:
    """What `agenttrace submit`, `agenttrace worker` and `agenttrace queue` do, from Python."""
    handler = SubmissionHandler()
    submission = submission_of(directory)
    result = await handler.validate_submission(submission)
    print(f"{len(result.checks_performed)} checks, {len(result.warnings)} warnings")
    if not result.is_valid:
        sys.exit("\n".join(result.errors))
    job = await handler.queue_submission(submission)
    print(f"queued as {job.run_id}")

    executor = TaskExecutor(enable_retries=True, max_retries=2)
    orchestrator = BenchmarkOrchestrator(handler, executor, num_workers=3)
    orchestrator.register_progress_callback(show)
    await orchestrator.start()
    while is_busy(orchestrator):  # noqa: ASYNC110 - other processes may work the queue off too
        await asyncio.sleep(0.5)
    # Stopped earlier, what was not over would wait, and go on with the next worker.
    await orchestrator.stop(graceful=True)
    status = orchestrator.get_queue_status()
    print(f"{status.finished} finished, {status.failed} failed, {len(status.workers)} workers left")


def is_busy(orchestrator: BenchmarkOrchestrator) -> bool:
    """Whether anything waits or runs."""
    status = orchestrator.get_queue_status()
    return bool(status.queue_size or status.active_executions)


def show(progress: ExecutionProgress) -> None:
    """One line for each thing that happens."""
    print(f"{progress.progress_percentage():5.1f}%  {progress.message}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "rule_based"))
