"""From a submission to a job: checked, received, sealed, queued."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Generic, ParamSpec, TypeVar

from runner.domain import (
    AgentEndpoint,
    BenchmarkSubmission,
    CheckName,
    Job,
    JobOptions,
    NewJob,
    QuotaUse,
    Schedule,
    Suite,
    ValidationResult,
)
from runner.errors import (
    InfrastructureError,
    InvalidSubmission,
    QuotaExceeded,
    RunnerError,
    StoreUnavailable,
)
from runner.intake.bundle import Received, receive
from runner.intake.checks import run_checks
from runner.intake.endpoint import authentication, endpoint_type
from runner.intake.load import check_source
from runner.intake.manifest import MANIFEST_NAME
from runner.intake.packages import REQUIREMENTS_NAME
from runner.intake.sealing import Sealer, without_secrets
from runner.intake.subject import Rules, Subject
from runner.intake.tree import BundleLimits
from runner.ports import JobQueue, SuiteCatalog

P = ParamSpec("P")
T = TypeVar("T")

Reach = Callable[[BenchmarkSubmission], Awaitable[str]]
"""Looks whether the agent is there, and says in one line what was found; raises RunnerError."""

REACHED_FOR = timedelta(minutes=10)
"""How long an agent that was reached need not be looked for again."""


@dataclass(frozen=True, kw_only=True)
class IntakePolicy:
    """What the operator has set."""

    suite: str
    """Where the options name none."""
    rules: Rules
    limits: BundleLimits
    bundles: Path
    """The directory of all received submissions, by run."""


class SubmissionHandler:
    """Checks submissions, and puts those that are valid into the queue."""

    def __init__(
        self,
        *,
        queue: JobQueue,
        catalog: SuiteCatalog,
        policy: IntakePolicy,
        sealer: Sealer,
        reach: Reach,
        environ: Mapping[str, str],
        now: Callable[[], datetime],
        new_run_id: Callable[[], str],
    ) -> None:
        self._queue = queue
        self._catalog = catalog
        self._policy = policy
        self._sealer = sealer
        self._reach = reach
        self._environ = environ
        self._now = now
        self._new_run_id = new_run_id
        self._reached: tuple[BenchmarkSubmission, str, datetime] | None = None

    async def validate_submission(
        self,
        submission: BenchmarkSubmission,
        options: JobOptions = JobOptions(),  # noqa: B008 - frozen
        schedule: Schedule = Schedule(),  # noqa: B008 - frozen
    ) -> ValidationResult:
        """All eleven checks; never raises for what the submission is, nor for what is down."""
        subject = await self._examined(submission, options, schedule)
        return ValidationResult(outcomes=run_checks(subject))

    async def queue_submission(
        self,
        submission: BenchmarkSubmission,
        options: JobOptions = JobOptions(),  # noqa: B008 - frozen
        schedule: Schedule = Schedule(),  # noqa: B008 - frozen
    ) -> Job:
        """Checks it, receives its files, and queues it; leaves nothing where it does not.

        Raises InvalidSubmission that lists all that is wrong, QuotaExceeded, and
        InfrastructureError where our side kept a check from being made.
        """
        subject = await self._examined(submission, options, schedule)
        _refuse_invalid(subject, ValidationResult(outcomes=run_checks(subject)))
        run_id = self._new_run_id()
        sealed = await asyncio.to_thread(self._sealer.seal, submission)
        async with self._received(submission, run_id) as (received, digest):
            job = NewJob(
                run_id=run_id,
                submission=without_secrets(received),
                sealed=sealed,
                content_digest=digest,
                options=options,
                schedule=schedule,
                submitted_at=self._now(),
            )
            queued = await _ended(self._queue.submit, job, self._policy.rules.quota)
            result = queued.result()
        if queued.interrupted:
            raise asyncio.CancelledError
        return result

    # -- looking -------------------------------------------------------------------------------

    async def _examined(
        self, submission: BenchmarkSubmission, options: JobOptions, schedule: Schedule
    ) -> Subject:
        """What the checks need to know, found out."""
        now = self._now()
        subject = Subject(
            submission=submission,
            options=options,
            schedule=schedule,
            rules=self._policy.rules,
            environ=self._environ,
            now=now,
            suite=await self._suite(options),
            quota_use=await self._quota_use(submission, now),
            reached="",
        )
        return replace(subject, reached=await self._look_for(subject))

    async def _suite(self, options: JobOptions) -> Suite | RunnerError:
        try:
            return await asyncio.to_thread(self._catalog.load, options.suite or self._policy.suite)
        except RunnerError as error:
            return error

    async def _quota_use(
        self, submission: BenchmarkSubmission, now: datetime
    ) -> QuotaUse | RunnerError:
        submitter, quota = submission.submitted_by, self._policy.rules.quota
        try:
            return await asyncio.to_thread(self._queue.quota_use, submitter, quota, now)
        except RunnerError as error:
            return error

    async def _look_for(self, subject: Subject) -> str | RunnerError:
        """One line about the agent, or why there is none."""
        submission = subject.submission
        if not endpoint_type(subject).passed:
            return InvalidSubmission("not tried: see endpoint_type", remedy="correct that first")
        if not authentication(subject).passed:
            return InvalidSubmission("not tried: see authentication", remedy="correct that first")
        if self._was_reached(submission, subject.now):
            return self._reached[1] if self._reached else ""
        try:
            await asyncio.to_thread(check_source, submission)
            line = await self._reach(submission)
        except RunnerError as error:
            return error
        self._reached = (submission, line, subject.now)
        return line

    def _was_reached(self, submission: BenchmarkSubmission, now: datetime) -> bool:
        if self._reached is None:
            return False
        before, _, at = self._reached
        return before == submission and now - at < REACHED_FOR

    # -- receiving -----------------------------------------------------------------------------

    @asynccontextmanager
    async def _received(
        self, submission: BenchmarkSubmission, run_id: str
    ) -> AsyncIterator[tuple[BenchmarkSubmission, str]]:
        """The submission with its files in a directory of ours, and their digest.

        They are removed again when the block raises, unless the queue may have the job all the
        same: a store that went silent does not say.
        """
        endpoint = submission.agent_endpoint
        if endpoint.source is None or not _needs_files(endpoint):
            yield _moved(submission, None), ""
            return
        target = self._policy.bundles / run_id
        try:
            received = await self._receive(endpoint, endpoint.source, target)
            yield _moved(submission, received.directory), received.digest
        except StoreUnavailable:
            raise
        except BaseException:
            await _ended(shutil.rmtree, target, ignore_errors=True)
            raise

    async def _receive(self, endpoint: AgentEndpoint, source: Path, target: Path) -> Received:
        taken = await _ended(receive, source, target, self._policy.limits, _wanted(endpoint))
        received = taken.result()
        if taken.interrupted:
            raise asyncio.CancelledError
        return received


def _refuse_invalid(subject: Subject, result: ValidationResult) -> None:
    """Raises what stands in the way, and says whose fault it is."""
    if result.is_valid:
        return
    refused = {one.name for one in result.outcomes if not one.passed and one.name.rejects}
    for name, what in (
        (CheckName.QUOTA_AVAILABLE, subject.quota_use),
        (CheckName.ENDPOINT_REACHABLE, subject.reached),
    ):
        if refused == {name} and isinstance(what, InfrastructureError):
            raise what
    if refused == {CheckName.QUOTA_AVAILABLE}:
        [outcome] = [one for one in result.outcomes if one.name in refused]
        raise QuotaExceeded(
            f"{subject.submission.submitted_by}: {outcome.message}", remedy=outcome.remedy
        )
    raise InvalidSubmission(
        "; ".join(result.errors), remedy="`agenttrace submit --check` shows every check"
    )


# -- files ---------------------------------------------------------------------------------------


def _needs_files(endpoint: AgentEndpoint) -> bool:
    return endpoint.endpoint_type == "local" or bool(endpoint.archive or endpoint.dockerfile)


def _wanted(endpoint: AgentEndpoint) -> tuple[str, ...]:
    """What of its directory is the submission; empty: all.

    Beside a function that was named without a manifest there may be anything, so that nothing is
    taken but its module and its requirements: the same as are built.
    """
    source = endpoint.source
    if source is None or not endpoint.module_path or (source / MANIFEST_NAME).exists():
        return ()
    top = endpoint.module_path.partition(".")[0]
    module = top if (source / top).is_dir() else f"{top}.py"
    has_requirements = (source / REQUIREMENTS_NAME).is_file()
    return (module, REQUIREMENTS_NAME) if has_requirements else (module,)


def _moved(submission: BenchmarkSubmission, source: Path | None) -> BenchmarkSubmission:
    endpoint = submission.agent_endpoint.model_copy(update={"source": source})
    return submission.model_copy(update={"agent_endpoint": endpoint})


# -- threads -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ended(Generic[T]):
    """Blocking work that is over."""

    result: Callable[[], T]
    """What it returned; raises what it raised."""
    interrupted: bool
    """Whether its caller was cancelled meanwhile."""


async def _ended(work: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> _Ended[T]:
    """Does `work` in a thread, to its end: however often the caller is cancelled meanwhile.

    Half done, or done unseen, it would leave files that nobody knows of.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **named))
    interrupted = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            interrupted = True
    return _Ended(task.result, interrupted)
