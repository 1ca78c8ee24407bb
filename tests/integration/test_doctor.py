"""The doctor on a real engine: what it sees of our sandbox, and of one with a hole in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.assets import asset
from runner.config import load_settings
from runner.doctor.examination import Check, DoctorReport, EngineFacts, examine
from runner.domain import Image, StdioInterface
from runner.engine import EngineClient, locate_engine
from runner.images.setup import SetUp, set_up
from runner.sandbox import DockerSandbox, SandboxPolicy
from runner.sandbox.journal import Journal
from runner.transport import ShimTransport

pytestmark = pytest.mark.docker

PROFILES = ("laptop", "shared-host", "competition")
OPTIONAL = {"own_kernel", "user_namespace", "apparmor", "swap_accounting"}
"""Walls that not every host has, and no profile asks for."""


@pytest.fixture(scope="module")
def client() -> Iterator[EngineClient]:
    with EngineClient(locate_engine()) as client:
        yield client


@pytest.fixture(scope="module")
def made(client: EngineClient) -> SetUp:
    return asyncio.run(set_up(client, lambda _: None))


def examined(
    client: EngineClient,
    made: SetUp,
    journals: Path,
    *,
    required: tuple[str, ...],
    **policy: Any,
) -> DoctorReport:
    """As `agenttrace doctor` does it; checks that no container is left."""
    program = asset("sandbox_images/probe/probe.py").read_text()
    image = Image(
        image_id=made.base_image_id,
        reference=made.base_tag,
        interface=StdioInterface(command=("python3", "-I", "-c", program)),
    )
    info = client.info
    engine = EngineFacts(
        version=info.version,
        api_version=info.api_version,
        kernel=info.kernel,
        cgroup_version=info.cgroup_version,
        cgroup_driver=info.cgroup_driver,
        storage_driver=info.storage_driver,
        runtimes=info.runtimes,
        security_options=info.security_options,
    )
    filter_ = policy.pop("seccomp", asset("config/seccomp.json").read_text())
    with Journal(journals) as journal:
        prefix = f"agenttrace-{journal.path.stem}-"
        sandbox = DockerSandbox(
            client, SandboxPolicy(shim_volume=made.shim_volume, seccomp=filter_, **policy), journal
        )
        transport = ShimTransport()
        report = asyncio.run(examine(engine, image, sandbox, transport, required=required))
        assert containers(client, prefix) == []
    return report


def containers(client: EngineClient, prefix: str) -> list[str]:
    def named(api: Any) -> list[str]:
        found = api.containers(all=True, filters={"name": prefix})
        return [name for container in found for name in container["Names"]]

    return client.call_blocking("list containers", named)


def check(report: DoctorReport, name: str) -> Check:
    return next(check for check in report.checks if check.name == name)


@pytest.mark.parametrize("profile", PROFILES)
def test_this_host_keeps_what_each_profile_promises(
    client: EngineClient, made: SetUp, tmp_path: Path, profile: str
) -> None:
    sandbox = load_settings({}, cwd=tmp_path, environ={}, profile=profile).settings.sandbox
    started = time.monotonic()
    report = examined(client, made, tmp_path, required=sandbox.require, cpu_mode=sandbox.cpu_mode)
    assert report.healthy, [c for c in report.checks if c.required and not c.ok]
    assert {c.name for c in report.checks if not c.ok} <= OPTIONAL | {"cpus"}
    assert time.monotonic() - started < 15


def test_a_filter_that_lets_everything_through(
    client: EngineClient, made: SetUp, tmp_path: Path
) -> None:
    report = examined(
        client,
        made,
        tmp_path,
        required=("seccomp",),
        seccomp='{"defaultAction": "SCMP_ACT_ALLOW"}',
    )
    assert not report.healthy
    assert check(report, "container").ok is True
    for name in ("io_uring", "tracing", "namespaces", "mounts", "keyrings", "clone3"):
        assert check(report, f"seccomp.{name}").ok is False, name
    assert check(report, "memory.limit").ok is True


def test_no_execution_in_scratch_when_the_settings_say_so(
    client: EngineClient, made: SetUp, tmp_path: Path
) -> None:
    report = examined(client, made, tmp_path, required=("tmpfs_exec",), tmpfs_exec=False)
    assert report.healthy
    assert "/tmp: cannot" in check(report, "tmpfs_exec").found


@pytest.mark.parametrize(
    "policy",
    [{"runtime": "no-such-runtime"}, {"seccomp": "{}"}, {"seccomp": "not a profile"}],
    ids=["runtime", "filter", "malformed"],
)
def test_a_container_that_the_engine_refuses(
    client: EngineClient, made: SetUp, tmp_path: Path, policy: dict[str, str]
) -> None:
    report = examined(client, made, tmp_path, required=("memory",), **policy)
    assert not report.healthy
    assert check(report, "container").ok is False
    assert check(report, "container").found
    assert check(report, "memory.limit").ok is None
