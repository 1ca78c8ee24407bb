"""Submissions are checked, received, sealed and queued: all of it, or nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import SecretStr

from runner.domain import (
    AgentEndpoint,
    BenchmarkSubmission,
    CheckName,
    Job,
    JobOptions,
    NewJob,
    QuotaUse,
    Schedule,
    SubmissionQuota,
    Suite,
)
from runner.errors import (
    BuildFailed,
    EngineUnavailable,
    InvalidSubmission,
    QuotaExceeded,
    RunnerError,
    StorageFailed,
    StoreUnavailable,
)
from runner.intake import handler as handler_module
from runner.intake import read_submission
from runner.intake.handler import IntakePolicy, SubmissionHandler
from runner.intake.sealing import Sealer
from runner.intake.subject import Rules
from runner.ports import JobQueue, SuiteCatalog

from .conftest import SMALL
from .test_checks import NOW, SUITE

Nothing = Callable[[], bool]


@dataclass
class Queue:
    """The two calls that intake makes of a queue."""

    jobs: list[NewJob] = field(default_factory=list)
    refusal: RunnerError | None = None
    use_refusal: RunnerError | None = None
    used: int = 0
    entered: threading.Event = field(default_factory=threading.Event)
    proceed: threading.Event | None = None

    def quota_use(self, submitter: str, quota: SubmissionQuota, now: datetime) -> QuotaUse:
        if self.use_refusal:
            raise self.use_refusal
        return QuotaUse(submitter=submitter, day=self.used, week=self.used)

    def submit(self, job: NewJob, quota: SubmissionQuota) -> Job:
        self.entered.set()
        if self.proceed:
            assert self.proceed.wait(30)
        if self.refusal:
            raise self.refusal
        self.jobs.append(job)
        return Job(run_id=job.run_id, submission=job.submission, submitted_at=job.submitted_at)


class Catalog:
    loaded: list[str]

    def __init__(self) -> None:
        self.loaded = []

    def load(self, name: str) -> Suite:
        self.loaded.append(name)
        return SUITE

    def names(self) -> list[str]:
        return ["starter"]


@dataclass
class Desk:
    """A handler, and what is around it."""

    bundles: Path
    key_file: Path
    queue: Queue = field(default_factory=Queue)
    catalog: Catalog = field(default_factory=Catalog)
    reached: list[BenchmarkSubmission] = field(default_factory=list)
    found: str | RunnerError = "image built"
    now: datetime = NOW

    def __post_init__(self) -> None:
        async def reach(submission: BenchmarkSubmission) -> str:
            self.reached.append(submission)
            if isinstance(self.found, RunnerError):
                raise self.found
            return self.found

        self.sealer = Sealer(self.key_file)
        self.handler = SubmissionHandler(
            queue=cast("JobQueue", self.queue),
            catalog=cast("SuiteCatalog", self.catalog),
            policy=IntakePolicy(
                suite="starter",
                rules=Rules(quota=SubmissionQuota(per_day=2), credential_variables=("AGENT_*",)),
                limits=SMALL,
                bundles=self.bundles,
            ),
            sealer=self.sealer,
            reach=reach,
            environ={"AGENT_TOKEN": "t"},
            now=lambda: self.now,
            new_run_id=lambda: "r1",
        )


@pytest.fixture
def desk(bundles: Path, tmp_path: Path) -> Desk:
    return Desk(bundles=bundles, key_file=tmp_path / "secret.key")


def completed(submission: BenchmarkSubmission, **fields: Any) -> BenchmarkSubmission:
    given = {
        "contact_email": "dev@example.com",
        "submitted_by": "team",
        "terms_accepted": True,
        **fields,
    }
    return submission.model_copy(update=given)


@pytest.fixture
def local(source: Path) -> BenchmarkSubmission:
    return completed(read_submission(str(source)))


def remote(**fields: Any) -> BenchmarkSubmission:
    endpoint = AgentEndpoint(endpoint_type="http", url="https://x.example.com/", **fields)
    return completed(
        BenchmarkSubmission(agent_name="a", agent_version="1.0.0", agent_endpoint=endpoint)
    )


# -- checking ------------------------------------------------------------------------------------


async def test_every_check_runs_whatever_is_wrong(desk: Desk, source: Path) -> None:
    (source / "agent.py").unlink()
    broken = completed(read_submission(str(source)), contact_email="", terms_accepted=False)
    result = await desk.handler.validate_submission(broken)
    assert result.checks_performed == [name.value for name in CheckName]
    failed = [one.name for one in result.outcomes if not one.passed]
    assert failed == [
        *(CheckName.REQUIRED_FIELDS, CheckName.TERMS_ACCEPTED, CheckName.EMAIL_VALID),
        CheckName.ENDPOINT_REACHABLE,
    ]
    assert "neither agent.py nor agent/__init__.py" in result.errors[-1]
    assert desk.reached == []  # nothing is built of what is not there
    assert desk.queue.jobs == []


async def test_an_engine_that_is_down_is_our_fault(desk: Desk, local: BenchmarkSubmission) -> None:
    desk.found = EngineUnavailable("no engine answers", remedy="start it")
    result = await desk.handler.validate_submission(local)
    assert not result.is_valid
    assert "a fault of our side" in result.errors[0]
    with pytest.raises(EngineUnavailable):
        await desk.handler.queue_submission(local)


async def test_a_store_that_is_down_is_our_fault(desk: Desk, local: BenchmarkSubmission) -> None:
    desk.queue.use_refusal = StoreUnavailable("no answer")
    assert not (await desk.handler.validate_submission(local)).is_valid
    with pytest.raises(StoreUnavailable):
        await desk.handler.queue_submission(local)


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"auth_type": "bearer", "auth_env": "AWS_SECRET"}, "see authentication"),
        ({"headers": {"Host": SecretStr("x")}}, "see authentication"),
    ],
)
async def test_nothing_is_sent_to_an_endpoint_that_may_not_have_it(
    desk: Desk, fields: dict[str, Any], part: str
) -> None:
    result = await desk.handler.validate_submission(remote(**fields))
    assert part in result.errors[-1]
    assert desk.reached == []


async def test_the_suite_asked_for_is_the_one_checked(
    desk: Desk, local: BenchmarkSubmission
) -> None:
    await desk.handler.validate_submission(local)
    await desk.handler.validate_submission(local, JobOptions(suite="other"))
    assert desk.catalog.loaded == ["starter", "other"]


async def test_an_agent_is_not_reached_twice_in_a_row(
    desk: Desk, local: BenchmarkSubmission
) -> None:
    await desk.handler.validate_submission(local)
    await desk.handler.queue_submission(local.model_copy())
    assert len(desk.reached) == 1
    await desk.handler.validate_submission(completed(local, agent_name="other"))
    assert len(desk.reached) == 2
    await desk.handler.validate_submission(local)
    assert len(desk.reached) == 3
    desk.now += timedelta(hours=1)
    await desk.handler.validate_submission(local)
    assert len(desk.reached) == 4


async def test_an_agent_that_was_not_reached_is_tried_again(
    desk: Desk, local: BenchmarkSubmission
) -> None:
    desk.found = BuildFailed("RUN false")
    assert not (await desk.handler.validate_submission(local)).is_valid
    desk.found = "image built"
    assert (await desk.handler.validate_submission(local)).is_valid


# -- queueing ------------------------------------------------------------------------------------


async def test_a_valid_submission_is_queued_with_its_files(
    desk: Desk, local: BenchmarkSubmission, source: Path
) -> None:
    options, schedule = JobOptions(seed=7), Schedule(priority=5)
    job = await desk.handler.queue_submission(local, options, schedule)
    [queued] = desk.queue.jobs
    assert (job.run_id, queued.options, queued.schedule) == ("r1", options, schedule)
    assert queued.submission.agent_endpoint.source == desk.bundles / "r1"
    assert queued.submission.submission_id == local.submission_id
    assert queued.content_digest.startswith("sha256:")
    assert queued.submitted_at == NOW
    (source / "agent.py").write_text("changed afterwards")
    assert "def answer" in (desk.bundles / "r1/agent.py").read_text()


async def test_a_function_alone_brings_nothing_else_along(desk: Desk, source: Path) -> None:
    (source / "submission.toml").unlink()
    (source / "requirements.txt").touch()
    (source / "diary.txt").touch()
    await desk.handler.queue_submission(completed(read_submission(f"{source / 'agent.py'}:answer")))
    received = sorted(path.name for path in (desk.bundles / "r1").iterdir())
    assert received == ["agent.py", "requirements.txt"]


async def test_images_and_urls_need_no_files(desk: Desk, nothing_left: Nothing) -> None:
    endpoint = AgentEndpoint(endpoint_type="container", image="repo/agent:1", source=Path("/etc"))
    image = completed(
        BenchmarkSubmission(agent_name="a", agent_version="1.0.0", agent_endpoint=endpoint)
    )
    for one in (image, remote()):
        await desk.handler.queue_submission(one)
        assert desk.queue.jobs[-1].submission.agent_endpoint.source is None
        assert desk.queue.jobs[-1].content_digest == ""
    assert nothing_left()


async def test_credentials_are_sealed_and_stored_nowhere_else(desk: Desk) -> None:
    given = remote(
        auth_type="bearer",
        auth_credentials={"token": SecretStr("s3cret")},
        headers={"X-Team": SecretStr("also-s3cret")},
    )
    await desk.handler.queue_submission(given)
    [queued] = desk.queue.jobs
    assert queued.submission.agent_endpoint.auth_credentials == {}
    assert queued.submission.agent_endpoint.headers == {}
    assert b"s3cret" not in queued.sealed
    assert desk.sealer.unseal(queued.submission, queued.sealed) == given


async def test_an_invalid_submission_is_refused_with_all_errors(
    desk: Desk, local: BenchmarkSubmission, nothing_left: Nothing
) -> None:
    desk.found = BuildFailed("RUN false")
    with pytest.raises(InvalidSubmission) as caught:
        await desk.handler.queue_submission(completed(local, terms_accepted=False, submitted_by=""))
    for part in ("terms_accepted:", "required_fields:", "quota_available:", "RUN false"):
        assert part in caught.value.message
    assert desk.queue.jobs == []
    assert nothing_left()


async def test_a_warning_does_not_stop_it(desk: Desk, local: BenchmarkSubmission) -> None:
    job = await desk.handler.queue_submission(completed(local, agent_version="one"))
    assert job.run_id == "r1"


async def test_an_exhausted_quota_is_no_invalid_submission(
    desk: Desk, local: BenchmarkSubmission, nothing_left: Nothing
) -> None:
    desk.queue.used = 2
    with pytest.raises(QuotaExceeded, match="2 of 2 used today"):
        await desk.handler.queue_submission(local)
    assert nothing_left()


@pytest.mark.parametrize("refusal", [QuotaExceeded("just taken"), StorageFailed("disk full")])
async def test_files_do_not_stay_where_the_queue_refuses(
    desk: Desk, local: BenchmarkSubmission, nothing_left: Nothing, refusal: RunnerError
) -> None:
    desk.queue.refusal = refusal
    with pytest.raises(type(refusal)):
        await desk.handler.queue_submission(local)
    assert nothing_left()


async def test_files_stay_where_the_queue_went_silent(
    desk: Desk, local: BenchmarkSubmission
) -> None:
    """Its answer may be what was lost, and then a worker will look for them."""
    desk.queue.refusal = StoreUnavailable("no answer")
    with pytest.raises(StoreUnavailable):
        await desk.handler.queue_submission(local)
    assert (desk.bundles / "r1/agent.py").exists()


async def test_files_that_are_refused(
    desk: Desk, local: BenchmarkSubmission, source: Path, nothing_left: Nothing
) -> None:
    (source / "link").symlink_to("/etc/passwd")
    assert (await desk.handler.validate_submission(local)).is_valid
    with pytest.raises(InvalidSubmission, match="link is a link"):
        await desk.handler.queue_submission(local)
    assert nothing_left()


# -- interrupted ---------------------------------------------------------------------------------


async def test_cancelled_while_files_are_received(
    desk: Desk,
    local: BenchmarkSubmission,
    nothing_left: Nothing,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entered, proceed = threading.Event(), threading.Event()
    receive = handler_module.receive

    def slow(*arguments: Any) -> Any:
        entered.set()
        assert proceed.wait(30)
        return receive(*arguments)

    monkeypatch.setattr(handler_module, "receive", slow)
    queueing = asyncio.create_task(desk.handler.queue_submission(local))
    await asyncio.to_thread(entered.wait, 30)
    queueing.cancel()
    await asyncio.sleep(0)
    queueing.cancel()
    await asyncio.sleep(0)
    proceed.set()
    with pytest.raises(asyncio.CancelledError):
        await queueing
    assert nothing_left()
    assert desk.queue.jobs == []


@pytest.mark.parametrize("refusal", [None, QuotaExceeded("just taken")])
async def test_cancelled_while_the_queue_takes_it(
    desk: Desk, local: BenchmarkSubmission, refusal: RunnerError | None
) -> None:
    """Job and files are there together, or neither."""
    desk.queue.proceed, desk.queue.refusal = threading.Event(), refusal
    queueing = asyncio.create_task(desk.handler.queue_submission(local))
    await asyncio.to_thread(desk.queue.entered.wait, 30)
    queueing.cancel()
    await asyncio.sleep(0)
    desk.queue.proceed.set()
    with pytest.raises(asyncio.CancelledError if refusal is None else QuotaExceeded):
        await queueing
    assert bool(desk.queue.jobs) == (desk.bundles / "r1").exists() == (refusal is None)
