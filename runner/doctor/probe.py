"""Runs our own agent (sandbox_images/probe) in a throwaway container, and reads what it found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Generic, TypeVar

from pydantic import Field, ValidationError

from runner.domain import (
    MIB,
    Attempt,
    EndingKind,
    Image,
    Limits,
    Measurement,
    Prompt,
    SandboxFacts,
)
from runner.domain.base import Noun
from runner.domain.mounts import (
    OUTPUT_DIRECTORY,
    SCRATCH_DIRECTORY,
    SHARED_MEMORY,
    SHIM_DIRECTORY,
    writable_mounts,
)
from runner.errors import RunnerError
from runner.evaluation.attempt import attempt
from runner.ports import Sandbox, Transport

PLACES = {"shim": SHIM_DIRECTORY, "scratch": SCRATCH_DIRECTORY, "output": OUTPUT_DIRECTORY}
SMALL = Limits(
    time_seconds=15,
    memory_bytes=128 * MIB,
    pids=32,
    shm_bytes=4 * MIB,
    disk_bytes=16 * MIB,
    disk_inodes=128,
    open_files=128,
)
"""So small that reaching every one of them takes a moment."""
QUARTER_CPU = SMALL.model_copy(update={"cpus": 0.25})
"""So little that a busy host does not hide whether anything holds it back."""
SPIN_SECONDS, SPIN_PROCESSES = 0.5, 2
MORE_CORES_THAN_ANY_HOST = 1024


class Reached(Noun):
    """How far something got that has a limit."""

    promised: int
    """The limit."""
    written: int
    """How much there was when it stopped: bytes, files, processes, descriptors."""
    stopped: str
    """`done`: nothing stopped it at twice the limit; else the errno or the signal that did."""


class Swap(Noun):
    """Limits of the cgroup as the kernel prints them; empty: there is no such file."""

    together: str
    """On memory and swap together (cgroup v1)."""
    alone: str
    """On swap alone (cgroup v2)."""
    areas: int
    """Swap devices and files of the host."""


class IsolationReport(Noun):
    """What the probe tried and saw; it judges nothing."""

    status: dict[str, str]
    """Lines of /proc/self/status."""
    tried: dict[str, str]
    """What it tried, and `done`, the errno, or the signal that it got."""
    mounts: dict[str, tuple[str, ...]]
    """Mount options (ro, nosuid, nodev, noexec) by path."""
    filled: dict[str, Reached]
    """Bytes, by writable mount."""
    files: Reached
    processes: Reached
    descriptors: Reached
    memory: Reached
    rlimits: dict[str, int]
    swap: Swap
    interfaces: tuple[str, ...]
    others: tuple[int, ...]
    """Processes that it sees beside the shim and itself."""
    cgroups: tuple[str, ...]
    """Paths of its cgroups, as it sees them."""
    hostname: str
    devices: tuple[str, ...]
    """Entries of /dev that no program needs."""
    uid_map: str
    apparmor: str


class CpuReport(Noun):
    """Several busy processes for half a second."""

    wall_seconds: float = Field(gt=0)
    cores: int = Field(gt=0)
    """Cores that it may run on."""
    widened: str
    """What it got when it asked for every core there is."""
    cores_after: int = Field(gt=0)
    """Cores that it may run on since."""


R = TypeVar("R", IsolationReport, CpuReport)


@dataclass(frozen=True, kw_only=True)
class Probed(Generic[R]):
    """What one probe found inside, and what was measured of it from outside."""

    report: R
    limits: Limits
    sandbox: SandboxFacts
    measurement: Measurement
    wall_seconds: float


@dataclass(frozen=True, kw_only=True)
class NotProbed:
    """Why there is nothing to judge."""

    reason: str
    remedy: str


async def probe_isolation(
    image: Image, sandbox: Sandbox, transport: Transport
) -> Probed[IsolationReport] | NotProbed:
    """Everything but CPU time; takes about half a second."""
    mounts = writable_mounts(SMALL, image.volumes) | {SHARED_MEMORY: SMALL.shm_bytes}
    limits = SMALL.model_dump(include={"disk_inodes", "pids", "open_files", "memory_bytes"})
    config = {"places": PLACES, "limits": limits | {"mounts": mounts}}
    ran = await _run("isolation", config, SMALL, image=image, sandbox=sandbox, transport=transport)
    return _read(ran, IsolationReport)


async def probe_cpus(
    image: Image, sandbox: Sandbox, transport: Transport
) -> Probed[CpuReport] | NotProbed:
    """The CPU limit, with a container of its own, as nothing else may use CPU time meanwhile."""
    config = {
        "seconds": SPIN_SECONDS,
        "processes": SPIN_PROCESSES,
        "cores": MORE_CORES_THAN_ANY_HOST,
    }
    ran = await _run("cpus", config, QUARTER_CPU, image=image, sandbox=sandbox, transport=transport)
    return _read(ran, CpuReport)


async def _run(
    part: str,
    config: Mapping[str, object],
    limits: Limits,
    *,
    image: Image,
    sandbox: Sandbox,
    transport: Transport,
) -> Attempt | NotProbed:
    prompt = Prompt(task_id=f"doctor-{part}", text=part)
    with TemporaryDirectory(prefix="agenttrace-doctor-") as artifacts:
        try:
            return await attempt(prompt, config, image, limits, sandbox, transport, Path(artifacts))
        except RunnerError as error:
            return NotProbed(reason=error.message, remedy=error.remedy)
        except OSError as error:
            return _broken(f"the probe could not be run: {error}")


def _read(ran: Attempt | NotProbed, kind: type[R]) -> Probed[R] | NotProbed:
    """The report under its schema: it comes out of a container like everything else."""
    if isinstance(ran, NotProbed):
        return ran
    reply = ran.reply
    if reply.ending.kind is not EndingKind.ANSWERED:
        said = ascii(reply.stderr[-300:].decode("utf-8", "replace"))
        return _broken(f"the probe did not finish: {reply.ending.detail}; it said {said}")
    if ran.measurement is None or ran.sandbox is None:
        return _broken("the probe's container could not be measured")
    try:
        report = kind.model_validate_json(reply.output)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return _broken(f"the probe's report cannot be read: {first['type']}")
    return Probed(
        report=report,
        limits=ran.limits,
        sandbox=ran.sandbox,
        measurement=ran.measurement,
        wall_seconds=reply.wall_seconds,
    )


def _broken(reason: str) -> NotProbed:
    return NotProbed(reason=reason, remedy="run `agenttrace setup`, then this again")


def whole_cores(limits: Limits) -> int:
    """How many cores a container has where cores are pinned."""
    return math.ceil(limits.cpus)
