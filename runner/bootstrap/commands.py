"""The commands that are not runs: set up, examine, plan."""

from __future__ import annotations

import asyncio
import os
import time

from runner.assets import asset
from runner.bootstrap.gateway import check_gateway
from runner.bootstrap.host import (
    base_image_running,
    configured_engine,
    host_for,
    open_host,
)
from runner.bootstrap.planning import make_plan, submission_of
from runner.bootstrap.request import RunRequest, SetUpReport
from runner.bootstrap.running import interruptible
from runner.config import Settings
from runner.doctor import DoctorReport, EngineFacts, examine
from runner.domain import RunPlan
from runner.engine import EngineClient
from runner.engine.install import ensure_engine
from runner.images.setup import set_up as make_set_up
from runner.ports import Say


def set_up(settings: Settings, say: Say) -> SetUpReport:
    """Finds or installs an engine and makes the base images; idempotent."""
    started = time.monotonic()
    address = configured_engine(settings) or ensure_engine(say)

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

    probe = asset("sandbox_images/probe/probe.py").read_text(encoding="utf-8")

    async def examined() -> DoctorReport:
        async with open_host(settings) as host:
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
                base_image_running(host, ("python3", "-I", "-c", probe)),
                host.sandbox,
                host.transport,
                required=settings.sandbox.require,
            )

    return asyncio.run(examined())


def prepare_run(settings: Settings, request: RunRequest) -> RunPlan:
    """What `run` would do: the image is built, nothing is run."""

    submission = submission_of(request)
    if not submission.agent_endpoint.remote:
        check_gateway(settings.gateway, os.environ)

    async def prepare() -> RunPlan:
        async with host_for(settings, submission) as host:
            planning = make_plan(settings, host, request, submission, lambda _: None)
            return await interruptible(planning)

    return asyncio.run(prepare())
