"""The story: one attempt, one category, one benchmark, and what is retried."""

from __future__ import annotations

from runner.evaluation.admission import Admission
from runner.evaluation.attempt import SandboxedAgent
from runner.evaluation.executor import Executor, RetryPolicy
from runner.evaluation.stop import StopSignal

__all__ = ["Admission", "Executor", "RetryPolicy", "SandboxedAgent", "StopSignal"]
