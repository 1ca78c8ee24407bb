"""Agents, and what must come of them on every engine, near or far."""

from __future__ import annotations

from dataclasses import dataclass

from runner.domain import EndingKind, ExecutionStatus, FailureReason, Limits

MIB = 1024 * 1024
SMALL = Limits(
    time_seconds=60,
    memory_bytes=64 * MIB,
    pids=24,
    disk_bytes=16 * MIB,
    output_bytes=1000,
    log_bytes=2000,
)

COMPLETED, FAILED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED
TIMEOUT, EXCEEDED = ExecutionStatus.TIMEOUT, ExecutionStatus.RESOURCE_EXCEEDED


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A Python program for an agent, and its end."""

    source: str
    kind: EndingKind
    status: ExecutionStatus
    reason: FailureReason | None = None
    limits: Limits = SMALL
    detail: str = ""


OUTCOMES = {
    "answered": Outcome(
        source="import json, sys; print(json.load(sys.stdin)['prompt'].upper(), end='')",
        kind=EndingKind.ANSWERED,
        status=COMPLETED,
    ),
    "crashed": Outcome(
        source="raise SystemExit(3)",
        kind=EndingKind.CRASHED,
        status=FAILED,
        reason=FailureReason.AGENT_ERROR,
        detail="exited with status 3",
    ),
    "killed itself": Outcome(
        source="import os; os.kill(os.getpid(), 9)",
        kind=EndingKind.CRASHED,
        status=FAILED,
        reason=FailureReason.AGENT_ERROR,
        detail="SIGKILL",
    ),
    "out of time": Outcome(
        source="print('thinking', flush=True); import time; time.sleep(1000)",
        kind=EndingKind.TIMED_OUT,
        status=TIMEOUT,
        reason=FailureReason.AGENT_TIMEOUT,
        limits=SMALL.model_copy(update={"time_seconds": 0.5}),
        detail="no answer within 0.5 s",
    ),
    "out of memory": Outcome(
        source="x = []\nwhile True: x.append(b'x' * 2**20)",
        kind=EndingKind.CRASHED,
        status=EXCEEDED,
        reason=FailureReason.MEMORY_EXCEEDED,
        detail="out of memory",
    ),
    "out of processes": Outcome(
        source="import os, time\nwhile True: os.fork() or time.sleep(1000)",
        kind=EndingKind.CRASHED,
        status=EXCEEDED,
        reason=FailureReason.PIDS_EXCEEDED,
        detail="at the limit of 24",
    ),
    "out of space": Outcome(
        source="f = open('/tmp/x', 'wb', 0)\nwhile True: f.write(bytes(2**20))",
        kind=EndingKind.CRASHED,
        status=EXCEEDED,
        reason=FailureReason.DISK_EXCEEDED,
        detail="no space left in /tmp",
    ),
    "a file too large": Outcome(
        source="import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "f = open('/dev/shm/x', 'wb', 0)\nwhile True: f.write(bytes(2**20))",
        kind=EndingKind.CRASHED,
        status=EXCEEDED,
        reason=FailureReason.DISK_EXCEEDED,
        detail="grew beyond",
    ),
    "an answer too long": Outcome(
        source="print('x' * 10**6)", kind=EndingKind.ANSWERED, status=COMPLETED
    ),
    "not text": Outcome(
        source="import os; os.write(1, bytes([255]))",
        kind=EndingKind.INVALID_OUTPUT,
        status=FAILED,
        reason=FailureReason.INVALID_OUTPUT,
    ),
}
