"""The public Python API of submitting."""

from __future__ import annotations

import os
from pathlib import Path

from runner.bootstrap.submitting import opened_handler
from runner.config import Settings, load_settings
from runner.domain import (
    BenchmarkSubmission,
    Job,
    JobOptions,
    Schedule,
    ValidationResult,
)


class SubmissionHandler:
    """Checks submissions and queues them; `agenttrace submit` does the same."""

    def __init__(self, *, settings: Settings | None = None) -> None:
        self.settings = settings or _default_settings()

    async def validate_submission(
        self,
        submission: BenchmarkSubmission,
        options: JobOptions = JobOptions(),  # noqa: B008 - frozen
        schedule: Schedule = Schedule(),  # noqa: B008 - frozen
    ) -> ValidationResult:
        """All eleven checks; the image is built, or the endpoint connected to."""
        async with opened_handler(self.settings) as handler:
            return await handler.validate_submission(submission, options, schedule)

    async def queue_submission(
        self,
        submission: BenchmarkSubmission,
        options: JobOptions = JobOptions(),  # noqa: B008 - frozen
        schedule: Schedule = Schedule(),  # noqa: B008 - frozen
    ) -> Job:
        """Puts it into the queue, once it is valid.

        Raises InvalidSubmission with all errors, QuotaExceeded.
        """
        async with opened_handler(self.settings) as handler:
            return await handler.queue_submission(submission, options, schedule)


def _default_settings() -> Settings:
    return load_settings({}, cwd=Path.cwd(), environ=os.environ).settings
