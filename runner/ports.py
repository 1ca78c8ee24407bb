"""Every extension point, one small Protocol each, documented as promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import JsonValue

from runner.domain import (
    AnswerKey,
    Artifact,
    Attempt,
    BenchmarkExecution,
    BenchmarkSubmission,
    BenchmarkTask,
    Breaker,
    BreakerStatus,
    Claim,
    ContainerEnd,
    Ending,
    GatewayUse,
    Image,
    Job,
    JobOutcome,
    JobState,
    Lease,
    Limits,
    Measurement,
    NewJob,
    NumberedEvent,
    Permission,
    Prompt,
    QuotaEntry,
    QuotaUse,
    Reply,
    RunEvent,
    RunPlan,
    SandboxFacts,
    Score,
    SubmissionQuota,
    Suite,
    TaskExecution,
    ToolAnswer,
    ToolDefinition,
    WorkerIdentity,
    WorkerStatus,
)

T = TypeVar("T")

Say = Callable[[str], None]
"""Receives one line of progress, in our words, for a person."""

Notify = Callable[[RunEvent], None]
"""Receives each event of a run as it happens; must not block and must not raise."""


class SuiteCatalog(Protocol):
    """Where tasks come from."""

    def load(self, name: str) -> Suite:
        """The suite of that name or in that directory; raises InvalidSuite, UsageError."""
        ...

    def names(self) -> list[str]:
        """Names that `load` knows without a path."""
        ...


class Scorer(Protocol):
    """Pure judgement: no I/O, bounded time, never raises whatever the answer holds."""

    def score(self, answer: str, key: AnswerKey) -> Score:
        """The judgement of `answer`; an empty answer scores 0."""
        ...


class ImageProvider(Protocol):
    """Makes a submission runnable."""

    async def prepare(self, submission: BenchmarkSubmission, say: Say) -> Image:
        """The image of this submission, built if its content was not built before.

        Raises BuildFailed (the submission's fault), InfrastructureError (ours). Leaves nothing
        but the finished image behind, whatever happens.
        """
        ...


class StageTimer(Protocol):
    """Notes how long each named step of an attempt takes."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Times its block, also when it raises."""
        ...


ShimFiles = Mapping[str, str]
"""Cgroup files by name (relative to /sys/fs/cgroup) as the shim read them."""


class ByteChannel(Protocol):
    """The two-way byte stream to the shim, over the container's own stdin and stdout."""

    async def read(self) -> bytes:
        """Some bytes, at least one; b"" once the container has ended."""
        ...

    async def write(self, data: bytes) -> None:
        """Hands over all of `data`; raises ConnectionError once the container has ended."""
        ...


class HostClaims(Protocol):
    """What attempts that run have claimed of a host, over all runners that use it."""

    async def take(self, limits: Limits, since: float, fits: Callable[[int, float], bool]) -> bool:
        """Claims the memory and CPUs of `limits` if they fit beside all that is claimed.

        `fits` is pure, quick, and told the bytes of memory and the CPUs claimed so far. `since`:
        when the attempt began to wait, by `time.monotonic`; False for one that came later than
        another runner's that has waited for long. Claims nothing when cancelled. Raises
        StorageFailed.
        """
        ...

    def give_back(self, limits: Limits) -> None:
        """Ends a claim; never raises, never waits."""
        ...


class Session(Protocol):
    """One live container with nothing of the agent's running in it yet."""

    @property
    def channel(self) -> ByteChannel:
        """The stream to its shim."""
        ...

    @property
    def facts(self) -> SandboxFacts:
        """What isolates it, read back from the live container."""
        ...

    async def baseline(self, shim_files: ShimFiles) -> None:
        """Reads the figures as they are before the agent starts, to be subtracted later."""
        ...

    def frozen(self) -> AbstractAsyncContextManager[None]:
        """Within it no process of the container runs, the shim included.

        A container that has ended is as frozen as can be: entering does not raise then.
        """
        ...

    @property
    def needs_shim_files(self) -> bool:
        """Whether the host cannot read the container's cgroup, so that the shim must."""
        ...

    async def measure(self, shim_files: ShimFiles) -> Measurement | None:
        """What the container has used so far; None when it is gone and nothing kept the figures.

        `shim_files` is empty unless `needs_shim_files`.
        """
        ...

    async def kill_agent(self) -> None:
        """SIGKILL to every process but the shim, where the host can send it; while frozen."""
        ...

    async def postmortem(self) -> ContainerEnd:
        """Why the container ended by itself.

        Raises InfrastructureError when it was removed, or the engine stopped, under us.
        """
        ...


class Sandbox(Protocol):
    """Makes isolated containers."""

    def session(
        self, image: Image, limits: Limits, timer: StageTimer
    ) -> AbstractAsyncContextManager[Session]:
        """A started container; it is removed on exit, whatever happens.

        Raises InfrastructureError when it cannot be made or a setting did not take.
        """
        ...


class Connection(Protocol):
    """One connection that the agent made to the gateway's address inside its container."""

    async def read(self) -> bytes:
        """Some bytes, at least one; b"" once the agent has closed its side, or all is over."""
        ...

    async def write(self, data: bytes) -> None:
        """Hands over all of `data`, and waits while the agent does not read.

        Raises ConnectionError once the agent has closed the connection, or ended.
        """
        ...

    async def close(self) -> None:
        """Ends both sides; what was written is delivered first. Never raises; may be repeated."""
        ...


class GatewayAccess(Protocol):
    """One attempt's way to models and tools."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables for the agent, in which `{url}` stands for `http://127.0.0.1:PORT`."""
        ...

    async def serve(self, connection: Connection) -> None:
        """Speaks HTTP/1.1 until either side ends it; many at once.

        Never raises for what the agent does. Cancelled at the attempt's end; what was under way
        is settled before `use` is asked for.
        """
        ...

    @property
    def max_connections(self) -> int:
        """At once; those beyond wait for one to end."""
        ...

    @property
    def excused_seconds(self) -> float:
        """By how much the attempt's deadline is put off so far; it only grows."""
        ...

    async def over(self) -> None:
        """Returns once the attempt is to end, since a budget was met; else never."""
        ...

    def use(self) -> GatewayUse:
        """What was done until now; ask for it after the attempt."""
        ...


class Gateway(Protocol):
    """All that a network-less agent can reach."""

    def open(
        self, task: BenchmarkTask, repeat: int, limits: Limits, exchanges: Path
    ) -> AbstractAsyncContextManager[GatewayAccess]:
        """Models and tools for one attempt; on exit every call has been settled and recorded.

        `exchanges` is the file, not there yet, that each exchange is written to. Raises
        InfrastructureError when it cannot be made.
        """
        ...


class Tool(Protocol):
    """One tool of one attempt; it may keep a state, which ends with the attempt."""

    @property
    def definition(self) -> ToolDefinition:
        """What the agent is told of it; the same for each attempt at a task."""
        ...

    @property
    def cacheable(self) -> bool:
        """Whether the same arguments always get the same answer, and change nothing."""
        ...

    async def call(self, arguments: Mapping[str, JsonValue]) -> ToolAnswer:
        """Its answer to `arguments`, which fit its schema.

        Never raises for what they hold; bounded in time and in what it returns.
        """
        ...


class Conversation(Protocol):
    """Talking to one agent through its shim, from hello to goodbye."""

    async def ask(self, prompt: Prompt, config: Mapping[str, object]) -> Ending:
        """Starts the agent, hands it the prompt, waits for its ending; never raises for what
        the agent does.
        """
        ...

    def reply(self) -> Reply:
        """All that was heard of the agent until now; ask for it after `stop`."""
        ...

    @property
    def facts(self) -> Mapping[str, str | int | float | bool]:
        """What the kernel says inside the container of its isolation, checked at hello."""
        ...

    async def read_cgroup(self) -> ShimFiles:
        """The container's cgroup files, as the shim sees them; empty if it cannot."""
        ...

    async def stop(self) -> bool:
        """Kills every process of the agent; True when the shim confirms that none is left.

        A container that has ended has none left either.
        """
        ...

    async def collect(self, directory: Path) -> tuple[Artifact, ...]:
        """Copies the agent's output directory into `directory`, which exists and is empty."""
        ...


class Transport(Protocol):
    """Speaks an interface (function, stdio, http) to an agent."""

    def open(
        self,
        session: Session,
        image: Image,
        limits: Limits,
        access: GatewayAccess | None = None,
    ) -> AbstractAsyncContextManager[Conversation]:
        """Waits for the shim's hello; raises InfrastructureError when none comes.

        `access` is what the agent reaches by connections inside its container; None: nothing.
        """
        ...


class Agent(Protocol):
    """One submission's agent, wherever it is, ready to be asked."""

    async def attempt(
        self,
        prompt: Prompt,
        config: Mapping[str, object],
        limits: Limits,
        artifacts: Path,
        access: GatewayAccess | None = None,
    ) -> Attempt:
        """Asks it once, from nothing; `artifacts` is an empty directory for what it leaves.

        `access` is what a sandboxed agent can reach; one that is elsewhere has its own.
        Raises InfrastructureError when our side failed; whatever the agent does is in the value.
        """
        ...


class Gate(Protocol):
    """Whether attempts may be made at present: the circuit breaker in front of an agent."""

    async def enter(self) -> None:
        """Before each attempt; waits while another one shows whether the guarded party is well
        again, and raises Postponed while it is to be left alone.
        """
        ...

    async def succeeded(self) -> None:
        """After an attempt in which the guarded party did its part."""
        ...

    async def failed(self, reason: str) -> None:
        """After an attempt that the guarded party failed; `reason` is one inert line."""
        ...

    async def withdrawn(self) -> None:
        """After an attempt that was given up, and says nothing of the guarded party."""
        ...


class AdmissionControl(Protocol):
    """How many attempts at once."""

    def admitted(self, limits: Limits) -> AbstractAsyncContextManager[None]:
        """Waits until an attempt with `limits` fits beside those that run.

        Raises InsufficientResources where it never will.
        """
        ...


class Evidence(Protocol):
    """The run directory: whole attempts or none."""

    def begin(self, plan: RunPlan) -> Path:
        """Makes the run's directory and writes what was asked; raises StorageFailed."""
        ...

    def begin_attempt(self, task_id: str, repeat: int) -> int:
        """The number of a new attempt, higher than that of any kept before and of any under way.

        Raises LeaseLost, StorageFailed, StoreUnavailable.
        """
        ...

    def staging(self) -> Path:
        """A new empty directory for the artifacts of an attempt in progress, in another new one.

        What lies beside it under the name `EXCHANGES` is kept with the attempt. The outer one is
        removed by the caller, kept or not.
        """
        ...

    def keep(self, execution: TaskExecution, reply: Reply | None, staging: Path) -> Path:
        """Writes one attempt, fsyncs it and renames it into place.

        Raises LeaseLost, StorageFailed, StoreUnavailable.
        """
        ...

    def judged(self) -> frozenset[tuple[str, int]]:
        """Task and repeat of what has a verdict already: it is not run again."""
        ...

    def finals(self) -> list[TaskExecution]:
        """The last attempt of each task and repeat that has been kept, in no order."""
        ...

    @property
    def path(self) -> Path:
        """The run's directory."""
        ...

    def event(self, event: RunEvent) -> None:
        """Appends to the event log; never raises, never waits."""
        ...

    def finish(self, execution: BenchmarkExecution) -> None:
        """Writes the run's own execution.json; raises StorageFailed."""
        ...


class Reuse(Protocol):
    """Results of earlier runs, where nothing that matters differs. Blocks; never raises."""

    def find(self, task: BenchmarkTask, limits: Limits, repeat: int) -> TaskExecution | None:
        """An earlier attempt that stands for this one, as its evidence has it."""
        ...

    def remember(self, task: BenchmarkTask, execution: TaskExecution, path: Path) -> None:
        """Notes an attempt, kept at `path`, for later runs, if it can stand for another."""
        ...


# -- the store -----------------------------------------------------------------------------------
# All of it may be called from any thread, and blocks. A database that does not answer, or is
# locked, is asked again for the patience configured, then StoreUnavailable is raised. Every call
# may be repeated after a reply that was lost: what was done once is not done twice. Times come
# from the caller, aware and in UTC: no row rests on the database's clock.


class JobQueue(Protocol):
    """What waits, who works on it, and the ledger of quotas."""

    def submit(self, job: NewJob, quota: SubmissionQuota) -> Job:
        """Reserves quota, stores the submission and queues it, in one transaction.

        Raises QuotaExceeded, and has changed nothing then.
        """
        ...

    def quota_use(self, submitter: str, quota: SubmissionQuota, now: datetime) -> QuotaUse:
        """What `submitter` has used of `quota`."""
        ...

    def quota_entries(self, submitter: str | None = None) -> list[QuotaEntry]:
        """The ledger, oldest first; of one submitter or of all."""
        ...

    def claim(self, worker: WorkerIdentity, claim_id: str, now: datetime) -> Claim | None:
        """The next job: by priority, then fairly by turns between submitters, then by arrival.

        None when none is due. `claim_id` is new for each claim wanted: asked again with it, the
        same job is given.
        """
        ...

    def leases(self) -> list[Lease]:
        """Those of all running jobs."""
        ...

    def take_over(
        self, seen: Lease, worker: WorkerIdentity, claim_id: str, now: datetime
    ) -> Claim | None:
        """The job of a lease whose worker is gone, if that lease is still exactly as `seen`."""
        ...

    def renew(self, lease: Lease) -> tuple[Lease, bool]:
        """One beat more; and whether the job's cancellation was asked for. Raises LeaseLost."""
        ...

    def postpone(self, lease: Lease, until: datetime, note: str, now: datetime) -> None:
        """Back into the queue at its old place, not to be claimed before `until`.

        Raises LeaseLost.
        """
        ...

    def finish(
        self,
        lease: Lease,
        outcome: JobOutcome,
        execution: BenchmarkExecution | None,
        evidence: Path | None,
        now: datetime,
    ) -> None:
        """The end of a job: its result is indexed, its quota committed or refunded, its credentials
        forgotten unless it failed through our fault, in one transaction. Raises LeaseLost.
        """
        ...

    def cancel(self, run_id: str, now: datetime, note: str = "") -> Job:
        """A waiting job is cancelled and refunded; a running one is asked to stop.

        Raises UsageError for a job that there is not, or that has ended.
        """
        ...

    def requeue(self, run_id: str, now: datetime) -> Job:
        """An ended job waits again, and goes on where it stopped; raises UsageError."""
        ...

    def job(self, run_id: str) -> Job:
        """One job; raises UsageError."""
        ...

    def jobs(
        self, states: Sequence[JobState] = tuple(JobState), limit: int | None = None
    ) -> list[Job]:
        """Running ones, waiting ones in the order of claiming, then ended ones, newest first."""
        ...

    def place(self, run_id: str) -> int | None:
        """In the order of claiming, 1 is next; None unless the job waits."""
        ...

    def starting_with(self, prefix: str, limit: int) -> list[str]:
        """Run ids of jobs that start with `prefix`, in order."""
        ...

    def counts(self) -> dict[JobState, int]:
        """How many jobs are in each state."""
        ...

    def report(self, status: WorkerStatus) -> None:
        """A worker's heartbeat; one without slots has ended and is forgotten."""
        ...

    def workers(self) -> list[WorkerStatus]:
        """Those that have reported and not ended."""
        ...


class RunLedger(Protocol):
    """Attempts and events of leased runs, and results of all."""

    def begin_attempt(self, lease: Lease, task_id: str, repeat: int, now: datetime) -> int:
        """A number one higher than any before it; raises LeaseLost."""
        ...

    def keep_attempt(self, lease: Lease, execution: TaskExecution, path: Path) -> None:
        """The attempt is kept at `path` and is the final one of its task and repeat for now.

        Unique by run, task, repeat and attempt. Raises LeaseLost.
        """
        ...

    def adopt_attempt(self, lease: Lease, execution: TaskExecution, path: Path) -> bool:
        """The same for one that was found on disk and that the database may have lost.

        False when it was known. The highest number stays the final one. Raises LeaseLost.
        """
        ...

    def judged(self, run_id: str) -> frozenset[tuple[str, int]]:
        """Task and repeat of those final attempts that have a verdict."""
        ...

    def finals(self, run_id: str) -> Iterator[TaskExecution]:
        """The final attempt of each task and repeat."""
        ...

    def kept(self, run_id: str) -> dict[tuple[str, int, int], Path]:
        """Where each kept attempt is, by task, repeat and attempt."""
        ...

    def append_events(self, lease: Lease | None, events: Sequence[NumberedEvent]) -> None:
        """Appends those that are not there yet; events of one run. Raises LeaseLost.

        `lease` is None for a run that no worker has.
        """
        ...

    def events(self, run_id: str, after: int = 0) -> list[NumberedEvent]:
        """Those with a higher number than `after`, in order."""
        ...

    def index(self, execution: BenchmarkExecution, evidence: Path) -> None:
        """The result of a run that was not queued; again: replaced."""
        ...

    def result(self, run_id: str) -> BenchmarkExecution | None:
        """A run's result, where it is known."""
        ...

    def indexed(self) -> dict[str, Path]:
        """Every run that has a result here, and where its evidence is."""
        ...


class BreakerStore(Protocol):
    """The memory of all circuit breakers, shared by all workers."""

    def update(self, name: str, step: Callable[[Breaker], tuple[Breaker, T]]) -> T:
        """Reads, steps and writes one breaker in one transaction; `step` is pure, and may be
        called more than once.
        """
        ...

    def all(self) -> dict[str, Breaker]:
        """Those that are not as new, by name."""
        ...


class Breakers(Protocol):
    """Circuit breakers by name, under one policy."""

    def allow(self, name: str) -> Permission:
        """Whether a call may be made; in half-open state the one who is allowed must tell."""
        ...

    def look(self, name: str) -> Permission:
        """Whether `allow` would grant a call now; nobody is allowed by it, nor has to tell."""
        ...

    def succeeded(self, name: str) -> None:
        """A call went well."""
        ...

    def failed(self, name: str, reason: str) -> None:
        """A call failed, through no fault of an agent."""
        ...

    def withdrawn(self, name: str) -> None:
        """A call that was allowed was given up."""
        ...

    def statuses(self) -> tuple[BreakerStatus, ...]:
        """Those that have anything to say."""
        ...
