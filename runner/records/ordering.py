"""The order in which tasks are run: shuffled, and the same everywhere for the same seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from runner.domain import BenchmarkTask


class DeterministicTaskOrdering:
    """Rests on SHA-256 alone, so neither the Python version, nor the process, nor the order of the
    input changes the result; `random` and `hash` promise none of these.
    """

    @staticmethod
    def seed_from_submission_id(submission_id: str) -> int:
        """A seed from 0 to 2**32 - 1, which is what most libraries accept."""
        return int.from_bytes(_digest(submission_id)[:4])

    @staticmethod
    def order_tasks(tasks: Iterable[BenchmarkTask], seed: int) -> list[BenchmarkTask]:
        """`tasks` shuffled by `seed`."""
        return sorted(tasks, key=lambda task: (_digest(f"{seed}\0{task.task_id}"), task.task_id))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
