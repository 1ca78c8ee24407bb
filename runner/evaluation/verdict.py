"""Pure judgement of how an attempt ended: evidence in, status and reason out."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Literal, assert_never

from runner.domain import (
    MIB,
    Attempt,
    BudgetKind,
    ContainerEnd,
    EndingKind,
    ExecutionStatus,
    FailureReason,
    GatewayUse,
)
from runner.domain.text import one_line
from runner.errors import InfrastructureError
from runner.evaluation.usage import NOTHING_USED

OutputPolicy = Literal["truncate", "fail"]

NEAR_THE_LIMIT = 0.98
"""A peak this close to the limit explains a death that nothing else does."""
KILLED_EXIT_CODE = 128 + signal.SIGKILL


@dataclass(frozen=True)
class Verdict:
    """How an attempt ended, and why, with the evidence in a line."""

    status: ExecutionStatus
    reason: FailureReason | None = None
    detail: str = ""


def judge(
    attempt: Attempt,
    output_policy: OutputPolicy = "truncate",
    use: GatewayUse = NOTHING_USED,
) -> Verdict:
    """The verdict; raises InfrastructureError when the container was killed from outside.

    A budget that was met decides, whatever the agent answered after it, unless it broke in.
    """
    verdict = _by_ending(attempt, output_policy)
    if verdict.reason is FailureReason.SECURITY_VIOLATION:
        return verdict
    return over_budget(use) or _with_failed_calls(verdict, use)


def _with_failed_calls(verdict: Verdict, use: GatewayUse) -> Verdict:
    """Says beside an agent's own failure that models had failed it; it was still its own."""
    failed = sum(call.status >= HTTPStatus.INTERNAL_SERVER_ERROR for call in use.model_calls)
    if not failed or verdict.reason is not FailureReason.AGENT_ERROR:
        return verdict
    return replace(verdict, detail=f"{verdict.detail}; {failed} of its model calls had failed")


def over_budget(use: GatewayUse) -> Verdict | None:
    """The budget of the attempt that one of its calls would have broken."""
    answered = sum(not call.refused for call in use.model_calls)
    calls = "1 call" if answered == 1 else f"{answered} calls"
    spent = f"{use.tokens_input + use.tokens_output} tokens in {calls}"
    match use.over_budget:
        case None:
            return None
        case BudgetKind.TOKENS:
            detail = f"a model call was refused over the token budget, after {spent}"
            return _exceeded(FailureReason.TOKEN_BUDGET_EXCEEDED, detail)
        case BudgetKind.COST:
            detail = f"a model call was refused over the cost budget, after {spent}"
            return _exceeded(FailureReason.COST_BUDGET_EXCEEDED, detail)
        case _:
            assert_never(use.over_budget)


def _by_ending(  # noqa: PLR0911 - one return for each ending
    attempt: Attempt, output_policy: OutputPolicy
) -> Verdict:
    ending = attempt.reply.ending
    match ending.kind:
        case EndingKind.ANSWERED:
            return _answered(attempt, output_policy)
        case EndingKind.INVALID_OUTPUT:
            return Verdict(ExecutionStatus.FAILED, FailureReason.INVALID_OUTPUT, ending.detail)
        case EndingKind.OUTPUT_EXCEEDED:
            return _exceeded(FailureReason.OUTPUT_EXCEEDED, ending.detail)
        case EndingKind.PROTOCOL_BROKEN:
            return Verdict(ExecutionStatus.FAILED, FailureReason.SECURITY_VIOLATION, ending.detail)
        case EndingKind.CRASHED:
            return exhaustion(attempt) or Verdict(
                ExecutionStatus.FAILED, FailureReason.AGENT_ERROR, ending.detail
            )
        case EndingKind.TIMED_OUT | EndingKind.BUDGET_SPENT:
            return exhaustion(attempt) or Verdict(
                ExecutionStatus.TIMEOUT, FailureReason.AGENT_TIMEOUT, ending.detail
            )
        case EndingKind.UNREACHABLE:
            return Verdict(ExecutionStatus.FAILED, FailureReason.AGENT_UNREACHABLE, ending.detail)
        case EndingKind.SANDBOX_ENDED:
            return _sandbox_ended(attempt, attempt.container_end or ContainerEnd())
        case _:
            assert_never(ending.kind)


def _answered(attempt: Attempt, output_policy: OutputPolicy) -> Verdict:
    if attempt.reply.output_truncated and output_policy == "fail":
        reply, limit = attempt.reply, attempt.limits.output_bytes
        detail = f"an answer of {reply.output_bytes} bytes, {limit} are allowed"
        return _exceeded(FailureReason.OUTPUT_EXCEEDED, detail)
    return Verdict(ExecutionStatus.COMPLETED)


def exhaustion(attempt: Attempt) -> Verdict | None:
    """The resource whose exhaustion explains an ending without an answer, if one does."""
    measured, limits, reply = attempt.measurement, attempt.limits, attempt.reply
    if measured and measured.oom_kills:
        peak = f"peak {_mib(measured.memory_peak_bytes)} of {_mib(limits.memory_bytes)}"
        return _exceeded(
            FailureReason.MEMORY_EXCEEDED,
            f"the kernel killed {measured.oom_kills} of its processes out of memory ({peak})",
        )
    if reply.full_mounts:
        return _exceeded(
            FailureReason.DISK_EXCEEDED,
            f"no space left in {one_line(', '.join(reply.full_mounts))}",
        )
    if reply.ending.signal == signal.SIGXFSZ:
        return _exceeded(FailureReason.DISK_EXCEEDED, "a file grew beyond the disk limit")
    if measured and measured.pids_limit_hits:
        return _exceeded(
            FailureReason.PIDS_EXCEEDED,
            f"{measured.pids_limit_hits} forks were refused at the limit of {limits.pids}",
        )
    return None


def _sandbox_ended(attempt: Attempt, end: ContainerEnd) -> Verdict:
    """The shim is out of the agent's reach: only the kernel, or somebody outside, can end it."""
    if end.exit_code == 0:  # it ends itself for one reason: the host has gone
        raise InfrastructureError(
            "the connection to the container broke during the attempt",
            remedy="nothing: it is retried; check the network to a remote engine",
        )
    if verdict := exhaustion(attempt):
        return verdict
    measured, limit = attempt.measurement, attempt.limits.memory_bytes
    if end.said_oom or (measured and measured.memory_peak_bytes >= NEAR_THE_LIMIT * limit):
        return _exceeded(
            FailureReason.MEMORY_EXCEEDED, f"the container ended at its limit of {_mib(limit)}"
        )
    if measured and end.exit_code == KILLED_EXIT_CODE:
        raise InfrastructureError(
            "the container was killed from outside during the attempt",
            remedy="nothing: it is retried",
        )
    detail = f"the shim ended with status {end.exit_code}: {end.diagnostics or 'no message'}"
    return Verdict(ExecutionStatus.FAILED, FailureReason.SECURITY_VIOLATION, detail)


def _exceeded(reason: FailureReason, detail: str) -> Verdict:
    return Verdict(ExecutionStatus.RESOURCE_EXCEEDED, reason, detail)


def _mib(count: int) -> str:
    return f"{count / MIB:.0f} MiB"
