"""The only place that names concrete classes: settings in, a working runner out."""

from __future__ import annotations

import asyncio
import fnmatch
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from runner.assets import asset
from runner.config import Loaded, Settings, load_settings, settings_as_data, state_directory
from runner.domain import (
    BenchmarkCategory,
    BenchmarkExecution,
    BenchmarkSubmission,
    BenchmarkTask,
    CategoryExecution,
    EventKind,
    ExecutionStatus,
    Image,
    LimitOverrides,
    RunEvent,
    RunPlan,
    StdioInterface,
    Suite,
    TaskExecution,
)
from runner.engine import EngineAddress, EngineClient, locate_engine
from runner.engine.install import ensure_engine
from runner.errors import Interrupted, InvalidConfiguration, UsageError
from runner.evaluation import Admission, Executor, RetryPolicy, StopSignal
from runner.evaluation.admission import HostCapacity
from runner.evaluation.stop import Stop
from runner.images.builder import SubmissionImages
from runner.images.limits import BuildLimits
from runner.images.setup import SetUp, find_set_up
from runner.images.setup import set_up as make_set_up
from runner.intake import image_submission, load_submission
from runner.ports import Notify, Say, SuiteCatalog
from runner.records import DeterministicTaskOrdering, EnvironmentSnapshot, RunDirectory
from runner.records.layout import new_run_id
from runner.records.snapshot import runner_version
from runner.sandbox import DockerSandbox, SandboxPolicy
from runner.sandbox.journal import Journal
from runner.sandbox.reaper import reap
from runner.scoring import DefaultScorer
from runner.suites import DirectoryCatalog
from runner.transport import ShimTransport
from runner.transport.launch import AgentUser

if TYPE_CHECKING:
    from runner.evaluation.doctor import Check, DoctorReport

T = TypeVar("T")

__all__ = [
    "Check",
    "CleanupReport",
    "DoctorReport",
    "RunRequest",
    "SetUpReport",
    "TaskExecutor",
    "catalog",
    "cleanup",
    "doctor",
    "prepare_run",
    "run",
    "set_up",
]


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What one run is asked to do; None: as the settings or the submission say."""

    target: str | None = None
    """A directory or `path/agent.py:function`; else `image`."""
    image: str | None = None
    interface: str | None = None
    command: tuple[str, ...] = ()
    port: int | None = None
    suite: str | None = None
    categories: tuple[BenchmarkCategory, ...] = ()
    tasks: tuple[str, ...] = ()
    """Shell patterns of task ids."""
    limit: int | None = None
    parallelism: int | None = None
    repeats: int | None = None
    seed: int | None = None
    overrides: LimitOverrides = LimitOverrides()
    token_budget: int | None = None
    output: Path | None = None


@dataclass(frozen=True, kw_only=True)
class SetUpReport:
    """What `set_up` found or made."""

    engine: str
    base_image: str
    shim_image: str
    shim_volume: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class CleanupReport:
    """What was, or would be, removed."""

    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


# -- what the command line calls ----------------------------------------------------------------


def catalog(settings: Settings) -> SuiteCatalog:  # noqa: ARG001 - others will need them
    """The suites that can be run by name."""
    return DirectoryCatalog()


def set_up(settings: Settings, say: Say) -> SetUpReport:
    """Finds or installs an engine and makes the base images; idempotent."""
    started = time.monotonic()
    address = _configured_engine(settings) or ensure_engine(say)

    async def make() -> SetUpReport:
        with EngineClient(address) as client:
            made = await make_set_up(
                client,
                say,
                base_reference=settings.images.base_reference,
                pull_seconds=settings.images.pull_seconds,
            )
            return SetUpReport(
                engine=f"{client.info.version} at {address.url}",
                base_image=made.base_tag,
                shim_image=made.shim_image_id,
                shim_volume=made.shim_volume,
                seconds=time.monotonic() - started,
            )

    return asyncio.run(make())


def doctor(settings: Settings) -> DoctorReport:
    """Probes what this host's engine really enforces, from inside a throwaway container."""

    from runner.evaluation.doctor import (  # noqa: PLC0415 - used by this command alone
        EngineFacts,
        examine,
    )

    async def probe() -> DoctorReport:
        async with _host(settings) as host:
            info = host.client.info
            return await examine(
                EngineFacts(
                    version=info.version,
                    api_version=info.api_version,
                    kernel=info.kernel,
                    cgroup_version=info.cgroup_version,
                    cgroup_driver=info.cgroup_driver,
                    storage_driver=info.storage_driver,
                    runtimes=info.runtimes,
                    security_options=info.security_options,
                ),
                _probe_image(host),
                host.sandbox,
                host.transport,
                required=settings.sandbox.require,
            )

    return asyncio.run(probe())


def prepare_run(settings: Settings, request: RunRequest) -> RunPlan:
    """What `run` would do: the image is built, nothing is run."""

    async def prepare() -> RunPlan:
        async with _host(settings) as host:
            return await _plan(host, request, lambda _: None)

    return asyncio.run(prepare())


def run(
    settings: Settings,
    request: RunRequest,
    observers: Sequence[Notify] = (),
    say: Say = lambda _: None,
) -> tuple[BenchmarkExecution, Path]:
    """Evaluates a submission; Ctrl-C and SIGTERM drain the first time and stop the second.

    The path is the run's directory. Raises RunnerError; Interrupted with what had finished.
    """
    return asyncio.run(_run(settings, request, observers, say))


def cleanup(settings: Settings, *, dry_run: bool, everything: bool) -> CleanupReport:
    """Removes what killed runners left; with `everything`, also all images and the set-up."""
    from runner.images.cleanup import remove_images  # noqa: PLC0415 - used by this command alone

    async def clean() -> CleanupReport:
        with _client(settings) as client:
            journals = _journals(settings)
            gone = await reap(client, journals, dry_run=dry_run)
            images = await remove_images(client, everything=everything, dry_run=dry_run)
            return CleanupReport(removed=(*gone, *images.removed), kept=images.kept)

    return asyncio.run(clean())


class TaskExecutor:
    """Runs tasks from Python; the command line's `run` does the same.

    Each call makes its own plan, run directory and containers, and leaves only the directory.
    """

    def __init__(
        self,
        *,
        enable_retries: bool = True,
        max_retries: int = 2,
        suite: str | None = None,
        settings: Settings | None = None,
        say: Say = lambda _: None,
        observers: Sequence[Notify] = (),
    ) -> None:
        given = settings or _default_settings().settings
        retries = max_retries if enable_retries else 0
        retrying = given.run.model_copy(update={"retries": retries})
        self._settings = given.model_copy(update={"run": retrying})
        self._suite = suite
        self._say = say
        self._observers = tuple(observers)
        self.last_run: Path | None = None
        """The run directory of the last call."""

    async def execute_task(
        self, submission: BenchmarkSubmission, task: BenchmarkTask, repeat: int = 1
    ) -> TaskExecution:
        """The final attempt at one task, of this executor's suite or not."""
        async with self._executor(submission, RunRequest(), [task]) as executor:
            return await executor.execute_task(task, repeat)

    async def execute_category(
        self,
        submission: BenchmarkSubmission,
        category: BenchmarkCategory,
        parallelism: int = 3,
    ) -> CategoryExecution:
        """All tasks of one category, `parallelism` at once where the host has room."""
        request = RunRequest(categories=(category,), parallelism=parallelism)
        async with self._executor(submission, request) as executor:
            return await executor.execute_category(category, parallelism)

    async def execute_benchmark(
        self, submission: BenchmarkSubmission, parallelism: int = 3
    ) -> BenchmarkExecution:
        """All tasks of the submission's categories."""
        request = RunRequest(parallelism=parallelism)
        async with self._executor(submission, request) as executor:
            return await executor.execute_benchmark()

    @asynccontextmanager
    async def _executor(
        self,
        submission: BenchmarkSubmission,
        request: RunRequest,
        tasks: Sequence[BenchmarkTask] = (),
    ) -> AsyncIterator[Executor]:
        request = replace(request, suite=self._suite)
        async with _host(self._settings) as host:
            plan = await _plan(host, request, self._say, submission, tasks)
            with _recorded(host, plan) as (evidence, directory):
                self.last_run = directory
                yield _executor(host, plan, evidence, self._observers, StopSignal())


# -- one host -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Host:
    """An engine that has been set up, and what runs agents on it."""

    settings: Settings
    client: EngineClient
    set_up: SetUp
    sandbox: DockerSandbox
    transport: ShimTransport


@asynccontextmanager
async def _host(settings: Settings) -> AsyncIterator[Host]:
    with _client(settings) as client:
        made = await find_set_up(client, base_reference=settings.images.base_reference)
        journals = _journals(settings)
        await reap(client, journals)
        with Journal(journals) as journal:
            yield Host(
                settings=settings,
                client=client,
                set_up=made,
                sandbox=DockerSandbox(client, _policy(settings, made), journal),
                transport=ShimTransport(_user(settings)),
            )


def _located(settings: Settings) -> EngineAddress:
    return locate_engine(settings.engine.host)


def _client(settings: Settings) -> EngineClient:
    return EngineClient(_located(settings), call_seconds=settings.engine.call_seconds)


def _configured_engine(settings: Settings) -> EngineAddress | None:
    return _located(settings) if settings.engine.host else None


def _journals(settings: Settings) -> Path:
    return state_directory(settings, os.environ) / "runners"


def _user(settings: Settings) -> AgentUser:
    return AgentUser(uid=settings.sandbox.agent_uid, gid=settings.sandbox.agent_gid)


def _policy(settings: Settings, made: SetUp) -> SandboxPolicy:
    return SandboxPolicy(
        shim_volume=made.shim_volume,
        seccomp=_seccomp(settings),
        runtime=settings.engine.runtime,
        apparmor=settings.sandbox.apparmor,
        agent_uid=settings.sandbox.agent_uid,
        agent_gid=settings.sandbox.agent_gid,
        cpu_mode=settings.sandbox.cpu_mode,
        tmpfs_exec=settings.sandbox.tmpfs_exec,
    )


def _seccomp(settings: Settings) -> str:
    name = settings.sandbox.seccomp
    path = asset("config/seccomp.json") if name == "default" else Path(name).expanduser()
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidConfiguration(
            f"sandbox.seccomp: {path} cannot be read: {error.strerror}",
            remedy="name a seccomp profile, or `default`",
        ) from error


def _probe_image(host: Host) -> Image:
    """The base image, to be asked by a program of ours what its sandbox lets through."""
    program = asset("sandbox_images/probe/probe.py").read_text(encoding="utf-8")
    return Image(
        image_id=host.set_up.base_image_id,
        reference=host.set_up.base_tag,
        interface=StdioInterface(command=("python3", "-I", "-c", program)),
    )


# -- one plan -----------------------------------------------------------------------------------


async def _plan(
    host: Host,
    request: RunRequest,
    say: Say,
    submission: BenchmarkSubmission | None = None,
    tasks: Sequence[BenchmarkTask] = (),
) -> RunPlan:
    settings = host.settings
    asked = submission or _submission(request)
    suite = catalog(settings).load(request.suite or settings.run.suite)
    chosen = list(tasks) or _chosen(suite, asked, request)
    seed = _seed(request, asked)
    image = await _images(host).prepare(asked, say)
    now = datetime.now(UTC)
    return RunPlan(
        run_id=new_run_id(now, secrets.token_bytes(3)),
        submission=asked,
        suite=suite,
        tasks=tuple(DeterministicTaskOrdering.order_tasks(chosen, seed))[: request.limit],
        repeats=request.repeats or settings.run.repeats,
        parallelism=request.parallelism or settings.run.parallelism,
        seed=seed,
        limits=settings.limits,
        image=image,
        settings=settings_as_data(settings),
        environment=_environment(host, seed),
        runner_version=runner_version(),
        started_at=now,
    )


def _submission(request: RunRequest) -> BenchmarkSubmission:
    details: dict[str, Any] = {
        "interface": request.interface,
        "command": request.command,
        "port": request.port,
    }
    if request.image:
        return image_submission(request.image, **details)
    if request.target:
        return load_submission(request.target, **details)
    raise UsageError("nothing to evaluate", remedy="name a directory, FILE.py:FUNCTION or an image")


def _seed(request: RunRequest, submission: BenchmarkSubmission) -> int:
    if request.seed is not None:
        return request.seed
    return DeterministicTaskOrdering.seed_from_submission_id(submission.submission_id)


def _chosen(
    suite: Suite, submission: BenchmarkSubmission, request: RunRequest
) -> list[BenchmarkTask]:
    """The tasks asked for, under the command line's limits; raises UsageError if none is left."""
    categories = request.categories or submission.categories or tuple(BenchmarkCategory)
    chosen = [
        _overridden(task, request)
        for task in suite.tasks
        if task.category in categories and _matches(task, request.tasks)
    ]
    if not chosen:
        raise UsageError(
            f"no task of suite {suite.name} is asked for",
            remedy=f"see `agenttrace suite show {suite.name}`",
        )
    return chosen


def _matches(task: BenchmarkTask, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(task.task_id, p) for p in patterns)


def _overridden(task: BenchmarkTask, request: RunRequest) -> BenchmarkTask:
    given = LimitOverrides.model_validate(task.limits.given() | request.overrides.given())
    budget = request.token_budget or task.token_budget
    return task.model_copy(update={"limits": given, "token_budget": budget})


def _environment(host: Host, seed: int) -> dict[str, Any]:
    info = host.client.info
    engine = {name: getattr(info, name) for name in ("version", "kernel", "cgroup_version", "tier")}
    return EnvironmentSnapshot.capture(seed, engine=engine).model_dump(mode="json")


def _images(host: Host) -> SubmissionImages:
    build, images = host.settings.build, host.settings.images
    limits = BuildLimits(
        memory_bytes=build.memory_bytes,
        cpus=build.cpus,
        seconds=build.seconds,
        network=build.network,
        image_bytes=build.image_bytes,
        context_bytes=build.context_bytes,
        context_files=build.context_files,
        pull_seconds=images.pull_seconds,
        allowed_bases=build.allowed_bases,
    )
    state = state_directory(host.settings, os.environ)
    return SubmissionImages(
        host.client, host.set_up.base_image_id, limits, state / "builds", state / "wheels"
    )


# -- one run ------------------------------------------------------------------------------------


async def _run(
    settings: Settings, request: RunRequest, observers: Sequence[Notify], say: Say
) -> tuple[BenchmarkExecution, Path]:
    if request.output:
        storage = settings.storage.model_copy(update={"runs_dir": request.output})
        settings = settings.model_copy(update={"storage": storage})
    async with _host(settings) as host:
        plan = await _interruptible(_plan(host, request, say))
        stop = StopSignal()
        with _recorded(host, plan) as (evidence, directory):
            executor = _executor(host, plan, evidence, observers, stop)
            with _signals(lambda: _on_signal(stop, plan, observers)):
                execution = await executor.execute_benchmark()
    if execution.status is ExecutionStatus.CANCELLED:
        raise Interrupted(
            f"interrupted after {len(execution.task_executions)} of"
            f" {len(plan.tasks) * plan.repeats} tasks",
            remedy=f"what had finished is in {directory}",
            execution=execution,
            path=directory,
        )
    return execution, directory


def _on_signal(stop: StopSignal, plan: RunPlan, observers: Sequence[Notify]) -> None:
    if stop.ask() is Stop.DRAIN:
        event = RunEvent(kind=EventKind.RUN_DRAINING, at=datetime.now(UTC), run_id=plan.run_id)
        for notify in observers:
            notify(event)


async def _interruptible(work: Awaitable[T]) -> T:
    """The value of `work`; Ctrl-C cancels it, which cleans up after itself."""
    task = asyncio.ensure_future(work)
    with _signals(task.cancel):
        try:
            return await task
        except asyncio.CancelledError:
            raise Interrupted("interrupted before the first task") from None


@contextmanager
def _signals(handler: Callable[[], object]) -> Iterator[None]:
    """Within it, SIGINT and SIGTERM call `handler` in the event loop."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@contextmanager
def _recorded(host: Host, plan: RunPlan) -> Iterator[tuple[RunDirectory, Path]]:
    evidence = RunDirectory(host.settings.storage.runs_dir, plan.run_id)
    directory = evidence.begin(plan)
    try:
        yield evidence, directory
    finally:
        evidence.close()


def _executor(
    host: Host,
    plan: RunPlan,
    evidence: RunDirectory,
    observers: Sequence[Notify],
    stop: StopSignal,
) -> Executor:
    run_settings = host.settings.run

    def notify(event: RunEvent) -> None:
        for observer in observers:
            observer(event)

    return Executor(
        plan=plan,
        sandbox=host.sandbox,
        transport=host.transport,
        scorer=DefaultScorer(),
        evidence=evidence,
        admission=Admission(_capacity(host)),
        retry=RetryPolicy(
            retries=run_settings.retries, delays_seconds=run_settings.retry_delays[1:]
        ),
        notify=notify,
        stop=stop,
        output_policy=host.settings.sandbox.output_policy,
    )


def _capacity(host: Host) -> HostCapacity:
    info, settings = host.client.info, host.settings
    return HostCapacity(
        cpus=info.cpus,
        memory_bytes=info.memory_bytes,
        memory_fraction=settings.run.max_memory_fraction,
        cpu_overcommit=settings.run.cpu_overcommit,
        evidence_directory=settings.storage.runs_dir,
        min_free_disk_bytes=settings.run.min_free_disk_bytes,
        local=host.client.address.socket_path is not None,
    )


def _default_settings() -> Loaded:
    return load_settings({}, cwd=Path.cwd(), environ=os.environ)
