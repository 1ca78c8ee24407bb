"""Evaluates a submission from Python: python examples/python_api.py [DIRECTORY]."""

import asyncio
import sys
from pathlib import Path

from runner import (
    AgentEndpoint,
    BenchmarkCategory,
    BenchmarkSubmission,
    DeterministicTaskOrdering,
    EnvironmentSnapshot,
    TaskExecutor,
    load_submission,
)

HERE = Path(__file__).parent


async def main(directory: Path) -> None:
    """A submission that is described in Python; `load_submission` reads one from its manifest."""
    submission = BenchmarkSubmission(
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
    executor = TaskExecutor(enable_retries=True, max_retries=2)

    category = await executor.execute_category(
        submission, BenchmarkCategory.REASONING, parallelism=2
    )
    print(f"{category.category}: {category.normalized_score:.1f} of 100")
    for execution in category.task_executions:
        usage = execution.resource_usage
        print(
            f"  {execution.task_id:30} {execution.status:10} {execution.normalized_score:5.1f}"
            f" {usage.execution_time_seconds:6.2f} s {usage.memory_peak_mb:6.1f} MiB"
        )

    from_manifest = load_submission(str(directory)).model_copy(
        update={"categories": (BenchmarkCategory.PLANNING,)}
    )
    benchmark = await executor.execute_benchmark(from_manifest, parallelism=2)
    print(f"overall: {benchmark.overall_score:.1f} of 100, evidence in {executor.last_run}")

    seed = DeterministicTaskOrdering.seed_from_submission_id(submission.submission_id)
    snapshot = EnvironmentSnapshot.capture(random_seed=seed)
    print(f"seed {seed}, the same order of tasks on every host; Python {snapshot.python_version}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "rule_based"))
