"""The index of results: a row for each run, with what a list or a leaderboard asks for."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, select

from runner.domain import BenchmarkExecution
from runner.store.database import put
from runner.store.documents import to_json
from runner.store.schema import executions


def put_result(
    connection: Connection,
    execution: BenchmarkExecution,
    evidence: Path | None,
    submitter: str = "",
) -> None:
    """The result of a run; again: replaced."""
    row = {
        name: getattr(execution, name)
        for name in (
            "run_id",
            "submission_id",
            "agent_name",
            "agent_version",
            "suite_name",
            "suite_version",
            "suite_digest",
            "status",
            "started_at",
            "finished_at",
        )
    }
    row |= {
        "submitter": submitter,
        "score": execution.overall_score,
        "tasks": len(execution.task_executions),
        "evidence": None if evidence is None else str(evidence),
        "document": to_json(execution),
    }
    put(connection, executions, row)


def result_of(connection: Connection, run_id: str) -> BenchmarkExecution | None:
    """A run's result, where it is known."""
    document = connection.scalar(select(executions.c.document).where(executions.c.run_id == run_id))
    return None if document is None else BenchmarkExecution.model_validate_json(document)


def indexed(connection: Connection) -> dict[str, Path]:
    """Every run that has a result here, and where its evidence is."""
    query = select(executions.c.run_id, executions.c.evidence).where(
        executions.c.evidence.is_not(None)
    )
    return {row.run_id: Path(row.evidence) for row in connection.execute(query)}
