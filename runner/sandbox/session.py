"""A container's life: made, attached, started, read back; frozen, measured; removed."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from runner.domain import ContainerEnd, Image, Limits, Measurement, SandboxFacts
from runner.engine import EngineClient
from runner.errors import EngineFailed, ImageGone, InfrastructureError, RunnerError
from runner.ports import ShimFiles, StageTimer
from runner.sandbox.cgroup import Cgroup, find_cgroup
from runner.sandbox.channel import AttachedChannel, attach, open_channel
from runner.sandbox.cpus import CpuPool
from runner.sandbox.hardening import (
    SandboxPolicy,
    Share,
    create_arguments,
    has_swap,
    read_back,
    read_back_process,
)
from runner.sandbox.journal import Journal
from runner.sandbox.last_look import LastLook
from runner.sandbox.leftovers import Leftovers
from runner.sandbox.meter import (
    NOTHING,
    Reading,
    Source,
    measurement,
    read_cgroup,
    read_shim_files,
    read_stats,
)
from runner.sandbox.reaper import remove
from runner.sandbox.sampler import Sampler
from runner.sandbox.settled import settled
from runner.sandbox.users import UserPool

POSTMORTEM_SECONDS = 5.0
REMOVED = ("removing", "dead")
"""States of a container that somebody is removing, from before the engine kills it."""
ENDING_SECONDS = 2
"""How long the shim may take to end itself once its channel is closed."""


@dataclass(frozen=True)
class _Started:
    """A container that runs, attached."""

    raw: socket.socket
    keep_alive: Any
    inspected: dict[str, Any]

    def close(self) -> None:
        """Gives the connection up."""
        self.raw.close()
        self.keep_alive.close()


class DockerSandbox:
    """Implements ports.Sandbox on a Docker engine."""

    def __init__(self, client: EngineClient, policy: SandboxPolicy, journal: Journal) -> None:
        self._client = client
        self._policy = policy
        self._journal = journal
        cores = client.info.cpus if policy.cpu_mode == "cpuset" else 0
        self._cpus = CpuPool(cores, journal.directory / "cpus")
        self._left = Leftovers(journal, partial(remove, client))
        self._users = UserPool(journal.directory / "users", policy.first_agent_uid)

    @asynccontextmanager
    async def session(
        self, image: Image, limits: Limits, timer: StageTimer
    ) -> AsyncIterator[ContainerSession]:
        """See ports.Sandbox."""
        await self._left.sweep()
        name = self._journal.new_name()
        async with self._share(limits) as share:
            try:
                session = await self._begin(name, image, limits, share, timer)
                async with session:
                    yield session
            finally:
                with timer.stage("remove"):
                    await self._remove(name)

    @asynccontextmanager
    async def _share(self, limits: Limits) -> AsyncIterator[Share]:
        async with self._cpus.taken(limits.cpus) as cpuset:
            with self._users.taken() as uid:
                yield Share(uid=uid, cpuset=cpuset)

    async def _begin(
        self, name: str, image: Image, limits: Limits, share: Share, timer: StageTimer
    ) -> ContainerSession:
        arguments = create_arguments(image, limits, self._policy, name, share)
        starting = self._client.in_thread(lambda: self._start(arguments, timer))
        try:
            started = (await settled(starting)).result()
        except asyncio.CancelledError as cancelled:
            with suppress(RunnerError):
                cancelled.args[0].result().close()
            raise
        channel = await open_channel(started.raw, started.keep_alive)
        try:
            return self._session(channel, arguments, started.inspected, share)
        except BaseException:
            await channel.close()
            raise

    def _start(self, arguments: dict[str, Any], timer: StageTimer) -> _Started:
        """Four calls in one thread, for each change of threads costs half a millisecond of CPU."""
        name, call = arguments["name"], self._client.call_blocking
        with timer.stage("create"):
            self._create(name, arguments)
        with timer.stage("attach"):
            raw, keep_alive = call("attach to container", lambda d: attach(d, name))
        try:
            with timer.stage("start"):
                call("start container", lambda d: d.start(name))
            with timer.stage("read back"):
                inspected = call("inspect container", lambda d: d.inspect_container(name))
        except BaseException:
            _Started(raw, keep_alive, {}).close()
            raise
        return _Started(raw, keep_alive, inspected)

    def _create(self, name: str, arguments: dict[str, Any]) -> None:
        try:
            self._client.call_blocking(
                "create container", lambda d: d.create_container(**arguments)
            )
        except EngineFailed as error:
            if error.status:
                self._left.certain(name)
            if error.not_found:
                raise ImageGone(
                    f"image {arguments['image']} was removed under the run",
                    remedy="nothing: it is made again when the run is gone on with",
                ) from error
            raise
        self._left.certain(name)

    def _session(
        self,
        channel: AttachedChannel,
        arguments: dict[str, Any],
        inspected: dict[str, Any],
        share: Share,
    ) -> ContainerSession:
        local = self._client.address.socket_path is not None
        swap_possible = not local or has_swap()
        applied = read_back(inspected, arguments["host_config"], swap_possible=swap_possible)
        applied |= read_back_process(inspected, arguments)
        pid = int(inspected["State"].get("Pid") or 0)
        cgroup = find_cgroup(pid, inspected["Id"]) if pid and local else None  # else not our pids
        memory = int(arguments["host_config"]["Memory"])
        limited = cgroup is not None and cgroup.limit_socket_buffers(memory)
        info = self._client.info
        runtime = inspected["HostConfig"].get("Runtime") or info.default_runtime
        facts = SandboxFacts(
            container_name=arguments["name"],
            container_id=inspected["Id"],
            image_id=inspected["Image"],
            engine_version=info.version,
            runtime=runtime,
            tier=info.tier_of(runtime),
            cgroup_version=info.cgroup_version,
            agent_uid=share.uid,
            agent_gid=self._policy.agent_gid,
            applied=applied | {"socket_buffers_limited": limited},
        )
        return ContainerSession(self._client, channel, facts, cgroup, pid)

    async def _remove(self, name: str) -> None:
        """Also after a create whose reply was lost, and when the task is being cancelled."""
        removing = self._left.end(
            name, partial(remove, self._client, ending_seconds=ENDING_SECONDS)
        )
        (await settled(removing)).result()


class ContainerSession:
    """Implements ports.Session; a context manager that ends the channel."""

    def __init__(
        self,
        client: EngineClient,
        channel: AttachedChannel,
        facts: SandboxFacts,
        cgroup: Cgroup | None,
        pid: int,
    ) -> None:
        self.channel = channel
        self.facts = facts
        self._client = client
        self._cgroup = cgroup
        self._pid = pid
        self._baseline = NOTHING
        self._sampler = Sampler(cgroup)
        self._last_look = LastLook(cgroup, pid)

    async def __aenter__(self) -> ContainerSession:
        self._last_look.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._last_look.stop()
        await self._sampler.stop()
        await self.channel.close()

    @property
    def needs_shim_files(self) -> bool:
        """See ports.Session."""
        return self._cgroup is None

    async def baseline(self, shim_files: ShimFiles) -> None:
        """See ports.Session."""
        if shim_files:  # the same counters; the engine takes up to a second for its statistics
            self._baseline = read_shim_files(shim_files, self.facts.cgroup_version)
        else:
            self._baseline, _ = await self._read(shim_files)
        if self._baseline.memory_peak_bytes is None:
            self._sampler.start()

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """See ports.Session."""
        if self._cgroup and self._cgroup.freezable:
            await self._freeze(self._cgroup)
            try:
                yield
            finally:
                self._cgroup.thaw()
        else:
            async with self._paused():
                yield

    async def _freeze(self, cgroup: Cgroup) -> None:
        try:
            if not cgroup.freeze_at_once() and not await asyncio.to_thread(cgroup.freeze):
                cgroup.thaw()
        except OSError:
            return  # the cgroup went with its container

    @asynccontextmanager
    async def _paused(self) -> AsyncIterator[None]:
        """The same by the engine, where this user cannot reach the cgroup."""
        paused = await self._try_call("pause container", lambda d: d.pause(self._name))
        try:
            yield
        finally:
            if paused:
                await self._try_call("unpause container", lambda d: d.unpause(self._name))

    async def _try_call(self, what: str, function: Any) -> bool:
        """False when the engine refuses, as it does for a container that has ended."""
        with suppress(EngineFailed):
            await self._client.call(what, function)
            return True
        return False

    async def measure(self, shim_files: ShimFiles) -> Measurement | None:
        """See ports.Session."""
        now, source = await self._read(shim_files)
        version = self.facts.cgroup_version
        return measurement(now, self._baseline, version, source, self._sampler.peak_bytes)

    async def _read(self, shim_files: ShimFiles) -> tuple[Reading, Source]:
        """The figures now, and whose word the memory's peak is."""
        if self._cgroup:
            now = read_cgroup(self._cgroup.read, self._cgroup.version)
            return now.or_else(self._last_look.reading), "host_cgroup"
        stats = await self._stats()
        inside = read_shim_files(shim_files, self.facts.cgroup_version)
        if stats.memory_peak_bytes is None and inside.memory_peak_bytes is not None:
            return stats.or_else(inside), "shim_cgroup"
        return stats.or_else(inside), "engine_stats"

    async def _stats(self) -> Reading:
        try:
            stats = await self._client.call(
                "container stats",
                lambda docker: docker.stats(self._name, stream=False, one_shot=True),
            )
        except EngineFailed:
            return NOTHING
        return read_stats(stats)

    async def kill_agent(self) -> None:
        """See ports.Session."""
        if self._cgroup:
            self._cgroup.kill_all_but(self._pid)

    async def postmortem(self) -> ContainerEnd:
        """See ports.Session."""
        state = await self._final_state()
        return ContainerEnd(
            exit_code=state.get("ExitCode"),
            said_oom=bool(state.get("OOMKilled")),
            diagnostics=ascii(self.channel.diagnostics[-500:])[1:-1],
        )

    async def _final_state(self) -> dict[str, Any]:
        """The engine's record once it knows of the end."""
        deadline = time.monotonic() + POSTMORTEM_SECONDS
        while (state := await self._state()).get("Running"):
            if time.monotonic() > deadline:
                raise InfrastructureError(
                    f"the connection to container {self._name} broke while it went on running",
                    remedy="nothing: it is retried; check the engine's log if it happens again",
                )
            await asyncio.sleep(0.05)
        if state.get("Status") in REMOVED:
            raise self._removed_by_others()
        return state

    async def _state(self) -> dict[str, Any]:
        try:
            found = await self._client.call(
                "inspect container", lambda docker: docker.inspect_container(self._name)
            )
        except EngineFailed as error:
            if error.not_found:
                raise self._removed_by_others() from error
            raise
        state: dict[str, Any] = found["State"]
        return state

    def _removed_by_others(self) -> InfrastructureError:
        return InfrastructureError(
            f"container {self._name} was removed by somebody else during the attempt",
            remedy="nothing: it is retried; do not prune while a run goes on",
        )

    @property
    def _name(self) -> str:
        return self.facts.container_name
