"""An engine that has been set up, and everything that runs agents on it."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from runner.assets import asset
from runner.config import Settings, state_directory
from runner.domain import BenchmarkSubmission, Image, StdioInterface
from runner.engine import EngineAddress, EngineClient, locate_engine
from runner.errors import InvalidConfiguration
from runner.evaluation.admission import Admission, HostCapacity
from runner.images.builder import SubmissionImages
from runner.images.limits import BuildLimits
from runner.images.setup import SetUp, find_set_up
from runner.sandbox import DockerSandbox, SandboxPolicy
from runner.sandbox.claims import SharedClaims
from runner.sandbox.journal import Journal
from runner.sandbox.reaper import reap
from runner.transport import ShimTransport


@dataclass(frozen=True, kw_only=True)
class Host:
    """An engine that has been set up, and what runs agents on it."""

    settings: Settings
    client: EngineClient
    set_up: SetUp
    sandbox: DockerSandbox
    transport: ShimTransport
    claims: SharedClaims
    """What all runners of this host have claimed of it."""

    @cached_property
    def admission(self) -> Admission:
        """One for all the runs of this process."""
        return Admission(capacity_of(self), self.claims)


@asynccontextmanager
async def open_host(settings: Settings) -> AsyncIterator[Host]:
    """The configured engine, freed of what killed runners left; raises NotSetUp."""
    with client_of(settings) as client:
        made = await find_set_up(client, base_reference=settings.images.base_reference)
        journals = journals_of(settings, client)
        await reap(client, journals)
        with Journal(journals) as journal, SharedClaims(journals / "claims") as claims:
            yield Host(
                settings=settings,
                client=client,
                set_up=made,
                sandbox=DockerSandbox(client, policy_of(settings, made), journal),
                transport=ShimTransport(),
                claims=claims,
            )


@asynccontextmanager
async def host_for(
    settings: Settings, submission: BenchmarkSubmission
) -> AsyncIterator[Host | None]:
    """The host, where the submission needs one: an agent behind a URL does not."""
    if submission.agent_endpoint.remote:
        yield None
        return
    async with open_host(settings) as host:
        yield host


def _located(settings: Settings) -> EngineAddress:
    return locate_engine(settings.engine.host)


def client_of(settings: Settings) -> EngineClient:
    """A client of the configured engine; close it."""
    return EngineClient(_located(settings), call_seconds=settings.engine.call_seconds)


def configured_engine(settings: Settings) -> EngineAddress | None:
    """The engine that the settings name, if they name one."""
    return _located(settings) if settings.engine.host else None


def journals_of(settings: Settings, client: EngineClient) -> Path:
    """Where runners note the names of their containers: a directory for each engine."""
    engine = re.sub(r"\W+", "-", client.info.engine_id) or "unnamed"
    return state_directory(settings, os.environ) / "runners" / engine


def policy_of(settings: Settings, made: SetUp) -> SandboxPolicy:
    """What is the same for every container; raises InvalidConfiguration."""
    return SandboxPolicy(
        shim_volume=made.shim_volume,
        seccomp=_seccomp(settings),
        runtime=settings.engine.runtime,
        apparmor=settings.sandbox.apparmor,
        first_agent_uid=settings.sandbox.agent_uid,
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


def base_image_running(host: Host, command: tuple[str, ...]) -> Image:
    """The base image, which is ours, running a program of ours."""
    return Image(
        image_id=host.set_up.base_image_id,
        reference=host.set_up.base_tag,
        interface=StdioInterface(command=command),
    )


def images_of(host: Host) -> SubmissionImages:
    """What makes submissions runnable on this host."""
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


def capacity_of(host: Host) -> HostCapacity:
    """What attempts may claim of this host."""
    info, settings = host.client.info, host.settings
    return HostCapacity(
        cpus=info.cpus,
        memory_bytes=info.memory_bytes,
        memory_fraction=settings.run.max_memory_fraction,
        cpu_overcommit=settings.run.cpu_overcommit,
        evidence_directory=settings.storage.runs_dir.expanduser(),
        min_free_disk_bytes=settings.run.min_free_disk_bytes,
        local=host.client.address.socket_path is not None,
    )
