"""Evidence in, status and reason out: a table, and the rule that no agent can buy a retry."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain import (
    MIB,
    Attempt,
    ContainerEnd,
    Ending,
    EndingKind,
    ExecutionStatus,
    FailureReason,
    Limits,
    Measurement,
    Reply,
)
from runner.errors import InfrastructureError
from runner.evaluation.usage import usage
from runner.evaluation.verdict import Verdict, judge

COMPLETED, FAILED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED
TIMEOUT, EXCEEDED = ExecutionStatus.TIMEOUT, ExecutionStatus.RESOURCE_EXCEEDED
LIMITS = Limits(memory_bytes=100 * MIB, pids=20)


def measured(**figures: Any) -> Measurement:
    plain = {
        "memory_peak_bytes": MIB,
        "memory_peak_source": "cgroup_peak",
        "read_from": "host_cgroup",
        "cgroup_version": 2,
    }
    return Measurement.model_validate(plain | figures)


def attempt(
    kind: EndingKind,
    *,
    figures: Measurement | None = None,
    end: ContainerEnd | None = None,
    signal_number: int | None = None,
    **reply: Any,
) -> Attempt:
    ending = Ending(kind=kind, detail="how it ended", signal=signal_number)
    return Attempt(
        task_id="t",
        limits=LIMITS,
        reply=Reply(ending=ending, **reply),
        measurement=figures,
        container_end=end,
    )


OOM = measured(oom_kills=2, memory_peak_bytes=100 * MIB)
FULL = measured(memory_peak_bytes=100 * MIB)
FORKS = measured(pids_limit_hits=7)
ALL = measured(oom_kills=1, pids_limit_hits=7)
DISK = {"full_mounts": ("/tmp",)}
KILLED = ContainerEnd(exit_code=137)

TABLE: list[tuple[Attempt, ExecutionStatus, FailureReason | None]] = [
    # an answer is an answer, whatever it cost
    (attempt(EndingKind.ANSWERED), COMPLETED, None),
    (attempt(EndingKind.ANSWERED, figures=ALL, **DISK), COMPLETED, None),
    (attempt(EndingKind.ANSWERED, output_truncated=True, output_bytes=10**6), COMPLETED, None),
    # crashes, and what explains them: memory before disk before pids
    (attempt(EndingKind.CRASHED), FAILED, FailureReason.AGENT_ERROR),
    (attempt(EndingKind.CRASHED, figures=measured()), FAILED, FailureReason.AGENT_ERROR),
    (attempt(EndingKind.CRASHED, figures=OOM), EXCEEDED, FailureReason.MEMORY_EXCEEDED),
    (attempt(EndingKind.CRASHED, figures=ALL, **DISK), EXCEEDED, FailureReason.MEMORY_EXCEEDED),
    (attempt(EndingKind.CRASHED, figures=FORKS, **DISK), EXCEEDED, FailureReason.DISK_EXCEEDED),
    (attempt(EndingKind.CRASHED, figures=FORKS), EXCEEDED, FailureReason.PIDS_EXCEEDED),
    (
        attempt(EndingKind.CRASHED, figures=FORKS, signal_number=signal.SIGXFSZ),
        EXCEEDED,
        FailureReason.DISK_EXCEEDED,
    ),
    # a peak at the limit is page cache as likely as not
    (attempt(EndingKind.CRASHED, figures=FULL), FAILED, FailureReason.AGENT_ERROR),
    # too late, and why
    (attempt(EndingKind.TIMED_OUT), TIMEOUT, FailureReason.AGENT_TIMEOUT),
    (attempt(EndingKind.TIMED_OUT, figures=FULL), TIMEOUT, FailureReason.AGENT_TIMEOUT),
    (attempt(EndingKind.TIMED_OUT, figures=OOM), EXCEEDED, FailureReason.MEMORY_EXCEEDED),
    (attempt(EndingKind.TIMED_OUT, figures=FORKS), EXCEEDED, FailureReason.PIDS_EXCEEDED),
    (attempt(EndingKind.TIMED_OUT, **DISK), EXCEEDED, FailureReason.DISK_EXCEEDED),
    # nothing explains these away
    (attempt(EndingKind.INVALID_OUTPUT, figures=ALL), FAILED, FailureReason.INVALID_OUTPUT),
    (attempt(EndingKind.OUTPUT_EXCEEDED, figures=ALL), EXCEEDED, FailureReason.OUTPUT_EXCEEDED),
    (attempt(EndingKind.PROTOCOL_BROKEN, figures=ALL), FAILED, FailureReason.SECURITY_VIOLATION),
    # the container's own end
    (
        attempt(EndingKind.SANDBOX_ENDED, figures=OOM, end=KILLED),
        EXCEEDED,
        FailureReason.MEMORY_EXCEEDED,
    ),
    (
        attempt(EndingKind.SANDBOX_ENDED, figures=FULL, end=KILLED),
        EXCEEDED,
        FailureReason.MEMORY_EXCEEDED,
    ),
    (
        attempt(EndingKind.SANDBOX_ENDED, end=ContainerEnd(exit_code=137, said_oom=True)),
        EXCEEDED,
        FailureReason.MEMORY_EXCEEDED,
    ),
    (
        attempt(EndingKind.SANDBOX_ENDED, figures=FORKS, end=KILLED),
        EXCEEDED,
        FailureReason.PIDS_EXCEEDED,
    ),
    (
        attempt(EndingKind.SANDBOX_ENDED, figures=measured(), end=ContainerEnd(exit_code=1)),
        FAILED,
        FailureReason.SECURITY_VIOLATION,
    ),
    (attempt(EndingKind.SANDBOX_ENDED, end=KILLED), FAILED, FailureReason.SECURITY_VIOLATION),
    (attempt(EndingKind.SANDBOX_ENDED), FAILED, FailureReason.SECURITY_VIOLATION),
]


@pytest.mark.parametrize(
    ("made", "status", "reason"),
    TABLE,
    ids=[f"{made.reply.ending.kind}-{number}" for number, (made, _, _) in enumerate(TABLE)],
)
def test_the_table(made: Attempt, status: ExecutionStatus, reason: FailureReason | None) -> None:
    verdict = judge(made)
    assert (verdict.status, verdict.reason) == (status, reason)
    assert bool(verdict.detail) == (status is not COMPLETED)


def test_a_kill_from_outside_is_nobodys_fault_here() -> None:
    killed = attempt(EndingKind.SANDBOX_ENDED, figures=measured(), end=KILLED)
    with pytest.raises(InfrastructureError, match="killed from outside"):
        judge(killed)


def test_a_broken_connection_is_not_the_agents() -> None:
    gone = attempt(EndingKind.SANDBOX_ENDED, figures=OOM, end=ContainerEnd(exit_code=0))
    with pytest.raises(InfrastructureError, match="connection"):
        judge(gone)


def test_an_answer_that_is_too_long_fails_where_the_policy_says_so() -> None:
    made = attempt(EndingKind.ANSWERED, output_truncated=True, output_bytes=10**6)
    expected = "an answer of 1000000 bytes, 50000 are allowed"
    assert judge(made, "fail") == Verdict(EXCEEDED, FailureReason.OUTPUT_EXCEEDED, expected)
    assert judge(attempt(EndingKind.ANSWERED), "fail").status is COMPLETED


def test_the_evidence_is_in_the_detail() -> None:
    assert judge(attempt(EndingKind.CRASHED, figures=OOM)).detail == (
        "the kernel killed 2 of its processes out of memory (peak 100 MiB of 100 MiB)"
    )
    assert (
        "7 forks were refused at the limit of 20"
        in judge(attempt(EndingKind.CRASHED, figures=FORKS)).detail
    )


def test_no_path_of_an_image_reaches_a_terminal_raw() -> None:
    made = attempt(EndingKind.CRASHED, full_mounts=("/\x1b[2J\n",))
    assert judge(made).detail == r"no space left in /\x1b[2J\n"


figures = st.none() | st.builds(
    measured,
    memory_peak_bytes=st.integers(0, 200 * MIB),
    oom_kills=st.integers(0, 2),
    pids_limit_hits=st.integers(0, 2),
)


NOT_THE_AGENTS = (EndingKind.SANDBOX_ENDED, EndingKind.UNREACHABLE)
"""Endings whose cause may lie elsewhere: an agent in a sandbox can bring about neither alone."""


@given(
    st.sampled_from([kind for kind in EndingKind if kind not in NOT_THE_AGENTS]),
    figures,
    st.none() | st.integers(1, 64),
    st.lists(st.text(max_size=5)).map(tuple),
    st.booleans(),
)
def test_nothing_that_an_agent_does_is_our_failure(
    kind: EndingKind,
    seen: Measurement | None,
    number: int | None,
    full: tuple[str, ...],
    truncated: bool,
) -> None:
    made = attempt(
        kind, figures=seen, signal_number=number, full_mounts=full, output_truncated=truncated
    )
    for policy in ("truncate", "fail"):
        reason = judge(made, policy).reason  # type: ignore[arg-type]
        assert reason is None or not reason.retried


def test_usage_is_what_was_measured() -> None:
    seen = measured(
        memory_peak_bytes=3 * MIB,
        cpu_user_seconds=1.5,
        cpu_system_seconds=0.25,
        cpu_throttled_seconds=0.5,
        oom_kills=1,
        pids_peak=4,
        network_bytes=7,
    )
    made = attempt(
        EndingKind.ANSWERED, figures=seen, wall_seconds=2.0, stdout_bytes=30, stderr_bytes=12
    )
    used = usage(made)
    assert (used.memory_peak_mb, used.memory_peak_source) == (3.0, "cgroup_peak")
    assert (used.cpu_seconds, used.cpu_throttled_seconds) == (1.75, 0.5)
    assert (used.oom_kills, used.pids_peak, used.network_bytes) == (1, 4, 7)
    assert (used.execution_time_seconds, used.output_bytes) == (2.0, 42)


def test_usage_that_could_not_be_measured_is_not_invented() -> None:
    used = usage(attempt(EndingKind.TIMED_OUT, wall_seconds=2.0, output_bytes=9))
    assert (used.execution_time_seconds, used.output_bytes) == (2.0, 9)
    assert used.memory_peak_source is None
