"""Which attempt it is, and its record: judged, spoilt by us, or an earlier run's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from runner.domain import (
    Attempt,
    BenchmarkTask,
    ExecutionStatus,
    FailureReason,
    GatewayUse,
    Limits,
    ResourceUsage,
    RunPlan,
    Score,
    TaskExecution,
)
from runner.domain.trace import trace_id_of
from runner.errors import InfrastructureError
from runner.evaluation.claims import mismatches
from runner.evaluation.usage import calls_usage
from runner.evaluation.verdict import Verdict


@dataclass(frozen=True)
class Context:
    """Which attempt it is."""

    plan: RunPlan
    task: BenchmarkTask
    repeat: int
    number: int
    limits: Limits
    started_at: datetime

    def execution(
        self,
        made: Attempt,
        verdict: Verdict,
        score: Score | None,
        used: ResourceUsage,
        use: GatewayUse,
    ) -> TaskExecution:
        """The attempt, judged."""
        reply = made.reply
        return self._begun(verdict).model_copy(
            update=_calls(use)
            | {
                "output": reply.output,
                "output_truncated": reply.output_truncated,
                "resource_usage": used,
                "score": score,
                "exit_code": reply.ending.exit_code,
                "signal": reply.ending.signal,
                "measurement": made.measurement,
                "sandbox": made.sandbox,
                "artifacts": made.artifacts,
                "agent_confirmed_dead": made.agent_confirmed_dead,
                "claims": reply.claims,
                "claim_mismatches": mismatches(reply.claims, used),
                "stages": made.stages,
            }
        )

    def spoilt(self, error: InfrastructureError, use: GatewayUse) -> TaskExecution:
        """An attempt that our own side failed; what it spent was spent all the same."""
        status, reason = ExecutionStatus.FAILED, FailureReason.INTERNAL_ERROR
        begun = self._begun(Verdict(status, reason, str(error)))
        used = begun.resource_usage.model_copy(update=calls_usage(use))
        return begun.model_copy(update=_calls(use) | {"resource_usage": used})

    def reused(self, found: TaskExecution) -> TaskExecution:
        """An earlier run's attempt as this run's own; when it was really made is told by that run's
        evidence.
        """
        ours = self._begun(Verdict(found.status, found.failure_reason, found.failure_detail))
        identity = ours.model_dump(
            include={"run_id", "submission_id", "repeat", "attempt", "started_at", "trace_id"}
        )
        return found.model_copy(
            update=identity | {"finished_at": datetime.now(UTC), "reused_from": found.run_id}
        )

    def _begun(self, verdict: Verdict) -> TaskExecution:
        return TaskExecution(
            run_id=self.plan.run_id,
            submission_id=self.plan.submission.submission_id,
            task_id=self.task.task_id,
            category=self.task.category,
            repeat=self.repeat,
            attempt=self.number,
            status=verdict.status,
            failure_reason=verdict.reason,
            failure_detail=verdict.detail,
            input=self.task.prompt.text,
            seed=self.plan.seed,
            started_at=self.started_at,
            finished_at=datetime.now(UTC),
            limits=self.limits,
            limit_overrides=self.task.limits.given(),
            token_budget=self.task.token_budget,
            cost_budget_usd=self.task.cost_budget_usd,
            trace_id=trace_id_of(self.plan.run_id, self.task.task_id, self.repeat, self.number),
        )


def _calls(use: GatewayUse) -> dict[str, object]:
    return {
        "model_calls": use.model_calls,
        "tool_calls": use.tool_calls,
        "divergence": use.divergence,
    }
