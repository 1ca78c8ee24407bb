"""Submissions into the queue: what `agenttrace submit` and the Python API do."""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.bootstrap.host import base_image_running, open_host
from runner.bootstrap.image_use import noted_images
from runner.bootstrap.planning import catalog, suite_source
from runner.bootstrap.policies import quota_of
from runner.bootstrap.remote import remote_policy_of
from runner.bootstrap.running import interruptible
from runner.bootstrap.storing import sealer_of, store_of
from runner.config import Settings, state_directory
from runner.domain import (
    BenchmarkSubmission,
    Job,
    JobOptions,
    JobState,
    Schedule,
    ValidationResult,
)
from runner.errors import Interrupted, InvalidSubmission, UsageError
from runner.evaluation.preflight import greet
from runner.intake import (
    BundleLimits,
    image_submission,
    is_archive,
    read_submission,
    receive,
)
from runner.intake.handler import IntakePolicy, Reach, SubmissionHandler
from runner.intake.subject import Rules
from runner.ports import JobQueue, Say
from runner.records.layout import new_run_id
from runner.transport.remote import reach as reach_remote

BUNDLES = "submissions"
"""In the state directory; `cleanup` looks there too."""
SHOWN_ID = len("sha256:") + 12


@dataclass(frozen=True, kw_only=True)
class SubmitRequest:
    """What is handed in, and how it is to be evaluated; None: as its manifest says."""

    target: str | None = None
    """A directory, an archive of one, `path/agent.py:function` or a URL; else `image`."""
    image: str | None = None
    interface: str | None = None
    command: tuple[str, ...] = ()
    port: int | None = None
    submitted_by: str | None = None
    contact_email: str | None = None
    terms: bool | None = None
    """Whether they are accepted."""
    options: JobOptions = field(default_factory=JobOptions)
    schedule: Schedule = field(default_factory=Schedule)
    check_only: bool = False
    """Check it, and queue nothing."""


def submit(
    settings: Settings, request: SubmitRequest, say: Say
) -> tuple[ValidationResult, Job | None]:
    """Checks a submission and queues it; no job where it is not valid, or was only to be checked.

    Raises RunnerError: QuotaExceeded where nothing but the quota stands in the way,
    InfrastructureError where nothing but a failure of ours does.
    """
    with _handed_in(settings, request) as submission, store_of(settings) as store:
        handler = _handler_of(settings, store.queue, say)
        try:
            result, job = asyncio.run(interruptible(_handled(handler, submission, request)))
        except Interrupted:
            raise Interrupted(
                "interrupted", remedy="`agenttrace queue` shows whether it was queued before that"
            ) from None
        if job:
            say(_place(store.queue, job))
        return result, job


async def _handled(
    handler: SubmissionHandler, submission: BenchmarkSubmission, request: SubmitRequest
) -> tuple[ValidationResult, Job | None]:
    details = (submission, _located(request.options), request.schedule)
    result = await handler.validate_submission(*details)
    if request.check_only:
        return result, None
    try:
        return result, await handler.queue_submission(*details)
    except InvalidSubmission:
        if result.is_valid:  # it was refused later: its files
            raise
        return result, None


@asynccontextmanager
async def opened_handler(
    settings: Settings, say: Say = lambda _: None
) -> AsyncIterator[SubmissionHandler]:
    """What checks and queues submissions under these settings; raises StoreUnavailable."""
    with store_of(settings) as store:
        yield _handler_of(settings, store.queue, say)


def _handler_of(settings: Settings, queue: JobQueue, say: Say) -> SubmissionHandler:
    return SubmissionHandler(
        queue=queue,
        catalog=catalog(settings),
        policy=intake_policy(settings),
        sealer=sealer_of(settings),
        reach=_reach_of(settings, say),
        environ=os.environ,
        now=_now,
        new_run_id=lambda: new_run_id(_now(), secrets.token_bytes(3)),
    )


def bundles_of(settings: Settings) -> Path:
    """Where the files of queued submissions are: a directory for each run."""
    return state_directory(settings, os.environ).absolute() / BUNDLES


def intake_policy(settings: Settings) -> IntakePolicy:
    """What the operator accepts."""
    submissions, remote = settings.submissions, settings.remote
    return IntakePolicy(
        suite=settings.run.suite,
        bundles=bundles_of(settings),
        limits=_bundle_limits(settings),
        rules=Rules(
            quota=quota_of(settings),
            organizations=submissions.organizations,
            credential_variables=remote.credential_variables,
            allow_plain_http=remote.allow_plain_http,
        ),
    )


def _bundle_limits(settings: Settings) -> BundleLimits:
    return BundleLimits(
        max_bytes=settings.submissions.max_bytes, max_files=settings.submissions.max_files
    )


def _now() -> datetime:
    return datetime.now(UTC)


# -- reaching the agent --------------------------------------------------------------------------


def _reach_of(settings: Settings, say: Say) -> Reach:
    """Looks for a remote agent where it is; builds a local one and waits for its hello."""

    async def reach(submission: BenchmarkSubmission) -> str:
        endpoint = submission.agent_endpoint
        if endpoint.endpoint_type == "http":
            return await reach_remote(endpoint, remote_policy_of(settings, os.environ))
        async with open_host(settings) as host:
            image = await noted_images(host).prepare(submission, say)
            known_good = base_image_running(host, ("true",))
            await greet(image, known_good, settings.limits, host.sandbox, host.transport)
            return f"image {image.image_id[:SHOWN_ID]} is there, and starts in the sandbox"

    return reach


# -- what was handed in --------------------------------------------------------------------------


@contextmanager
def _handed_in(settings: Settings, request: SubmitRequest) -> Iterator[BenchmarkSubmission]:
    """The submission that the request names; an archive is unpacked for as long as the block."""
    if not request.target or not is_archive(Path(request.target)) or "://" in request.target:
        yield _named(request, request.target)
        return
    with _unpacked(settings, Path(request.target)) as directory:
        yield _named(request, str(directory))


@contextmanager
def _unpacked(settings: Settings, archive: Path) -> Iterator[Path]:
    """The archive's files, in a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="agenttrace-submission-") as aside:
        yield receive(archive, Path(aside) / "files", _bundle_limits(settings)).directory


def _named(request: SubmitRequest, target: str | None) -> BenchmarkSubmission:
    details: dict[str, Any] = {
        "interface": request.interface,
        "command": request.command,
        "port": request.port,
    }
    if request.image:
        found = image_submission(request.image, **details)
    elif target:
        found = read_submission(target, **details)
    else:
        raise UsageError("nothing to submit", remedy="name a directory, an archive or an image")
    return _completed(found, request)


def _completed(submission: BenchmarkSubmission, request: SubmitRequest) -> BenchmarkSubmission:
    """With what the command line says of its submitter; its id is theirs too."""
    given = {
        "submitted_by": request.submitted_by,
        "contact_email": request.contact_email,
        "terms_accepted": request.terms,
    }
    said = {name: value for name, value in given.items() if value is not None}
    if not said:
        return submission
    fields = {name: getattr(submission, name) for name in BenchmarkSubmission.model_fields}
    return BenchmarkSubmission(**{**fields, "submission_id": "", **said})


def _located(options: JobOptions) -> JobOptions:
    """The suite, so that a worker elsewhere finds it too."""
    return (
        options.model_copy(update={"suite": suite_source(options.suite)})
        if options.suite
        else options
    )


def _place(queue: JobQueue, job: Job) -> str:
    """One line about where the job stands."""
    number = queue.place(job.run_id)
    if number is None:
        return f"{job.run_id} is taken already"
    place = f"queued: place {number} of {queue.counts().get(JobState.QUEUED, number)}"
    return place if queue.workers() else f"{place}; no worker runs: start `agenttrace worker`"
