"""The doctor's judgement, over what its probe really reported on a good host, and on worse ones."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runner.config import load_settings
from runner.doctor.examination import Check, DoctorReport, EngineFacts, examine
from runner.doctor.probe import QUARTER_CPU, SMALL
from runner.doctor.promises import CPUS, ENGINE, ISOLATION
from runner.domain import (
    Artifact,
    ContainerEnd,
    Ending,
    EndingKind,
    Image,
    Limits,
    Measurement,
    Prompt,
    Reply,
    SandboxFacts,
    StdioInterface,
)
from runner.errors import EngineFailed, EngineUnavailable, LimitNotApplied, RunnerError
from runner.ports import ByteChannel, Conversation, Session, StageTimer

RECORDED = json.loads(
    (Path(__file__).parent / "recorded" / "docker-20.10-cgroup-v1.json").read_text()
)
IMAGE = Image(image_id="sha256:0", reference="probe", interface=StdioInterface(command=("probe",)))
NAMES = [promise.name for promise in (*ENGINE, *ISOLATION, *CPUS)]
GUARANTEES = sorted({name.partition(".")[0] for name in NAMES})
NOT_ON_EVERY_HOST = {"own_kernel", "user_namespace", "apparmor"}
DESCRIPTIONS = {"isolation", "engine.cgroup", "engine.runtimes"}
"""They say what there is; no host lacks them."""

ANSWERED = Ending(kind=EndingKind.ANSWERED)

Change = Callable[[dict[str, Any]], object]


# -- a host that says what was recorded ------------------------------------------------------------


@dataclass
class Recording:
    """Implements ports.Sandbox, Session, Transport and Conversation from one recording."""

    data: dict[str, Any]
    part: str = ""
    asked: list[tuple[str, Limits, Mapping[str, object]]] = field(default_factory=list)
    limits: Limits = SMALL
    refusal: Exception | None = None
    ending: Ending = ANSWERED
    output: str | None = None
    channel: ByteChannel | None = None
    needs_shim_files: bool = False
    open_containers: int = 0

    @asynccontextmanager
    async def session(
        self, image: Image, limits: Limits, timer: StageTimer
    ) -> AsyncIterator[Session]:
        if self.refusal:
            raise self.refusal
        self.limits = limits
        self.open_containers += 1
        yield self
        self.open_containers -= 1

    @asynccontextmanager
    async def open(
        self, session: Session, image: Image, limits: Limits, access: object = None
    ) -> AsyncIterator[Conversation]:
        yield self

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        yield

    @property
    def facts(self) -> Any:
        return Facts(self.data["sandbox"])

    async def baseline(self, shim_files: object) -> None:
        pass

    async def measure(self, shim_files: object) -> Measurement | None:
        said = self.data[self.part]["measurement"]
        return Measurement.model_validate(said) if said else None

    async def kill_agent(self) -> None:
        pass

    async def postmortem(self) -> ContainerEnd:
        return ContainerEnd()

    async def ask(self, prompt: Prompt, config: Mapping[str, object]) -> Ending:
        self.part = prompt.text
        self.asked.append((prompt.text, self.limits, config))
        return self.ending

    def reply(self) -> Reply:
        said = json.dumps(self.data[self.part]["report"]) if self.output is None else self.output
        wall = self.data[self.part]["wall_seconds"]
        return Reply(ending=self.ending, output=said, stderr=b"\x1b[31mgone", wall_seconds=wall)

    async def stop(self) -> bool:
        return True

    async def collect(self, directory: Path) -> tuple[Artifact, ...]:
        return ()


class Facts(SandboxFacts):
    """A session's facts; a conversation's are a mapping, here an empty one."""

    def __init__(self, said: dict[str, Any]) -> None:
        super().__init__(**said)

    def keys(self) -> list[str]:
        return []

    def __getitem__(self, name: str) -> str:
        raise KeyError(name)


async def examined(
    *changes: Change, required: list[str] | None = None, **settings: Any
) -> tuple[DoctorReport, Recording]:
    data = copy.deepcopy(RECORDED)
    for change in changes:
        change(data)
    host = Recording(data, **settings)
    engine = EngineFacts(
        **data["engine"]
        | {name: tuple(data["engine"][name]) for name in ("runtimes", "security_options")}
    )
    report = await examine(
        engine,
        IMAGE,
        host,
        host,
        required=required or [],
    )
    return report, host


def check(report: DoctorReport, name: str) -> Check:
    return next(check for check in report.checks if check.name == name)


def required_by(profile: str) -> list[str]:
    loaded = load_settings({}, cwd=Path("/"), environ={}, profile=profile)
    return list(loaded.settings.sandbox.require)


# -- ways in which a host is worse -----------------------------------------------------------------


def put(*path: str, value: object) -> Change:
    def change(data: dict[str, Any]) -> None:
        *parents, last = path
        for name in parents:
            data = data[name]
        data[last] = value

    return change


def inside(*path: str, value: object) -> Change:
    return put("isolation", "report", *path, value=value)


def tried(name: str, outcome: str = "done") -> Change:
    assert name in RECORDED["isolation"]["report"]["tried"], name
    return inside("tried", name, value=outcome)


def unlimited(*path: str, stopped: str = "done") -> Change:
    def change(data: dict[str, Any]) -> None:
        reached = data["isolation"]["report"]
        for name in path:
            reached = reached[name]
        reached |= {"written": 2 * reached["promised"], "stopped": stopped}

    return change


MISSING: list[tuple[str, Change]] = [
    ("engine.version", put("engine", "version", value="19.03.15")),
    ("engine.api", put("engine", "api_version", value="1.40")),
    ("engine.storage", put("engine", "storage_driver", value="vfs")),
    ("engine.seccomp", put("engine", "security_options", value=[])),
    ("user", inside("status", "Uid", value="0 0 0 0")),
    ("user", tried("setresuid(0)")),
    ("capabilities", inside("status", "CapEff", value="0000000000000040")),
    ("capabilities", inside("status", "CapAmb", value="0000000000000001")),
    ("no_new_privileges", inside("status", "NoNewPrivs", value="0")),
    ("seccomp.filter", inside("status", "Seccomp", value="0")),
    ("seccomp.io_uring", tried("io_uring_setup", "EFAULT")),
    ("seccomp.tracing", tried("ptrace", "ESRCH")),
    ("seccomp.tracing", tried("process_vm_readv")),
    ("seccomp.userfaultfd", tried("userfaultfd")),
    ("seccomp.bpf", tried("bpf", "EINVAL")),
    ("seccomp.perf", tried("perf_event_open", "EFAULT")),
    ("seccomp.keyrings", tried("keyctl")),
    ("seccomp.mounts", tried("mount", "EFAULT")),
    ("seccomp.namespaces", tried("unshare(CLONE_NEWUSER)")),
    ("seccomp.namespaces", tried("setns", "EBADF")),
    ("seccomp.clone3", tried("clone3", "EPERM")),
    ("seccomp.crypto", tried("socket AF_ALG")),
    ("network.interfaces", inside("interfaces", value=["lo", "eth0"])),
    ("network.bridge", tried("route to the engine's bridge")),
    ("network.metadata", tried("route to metadata")),
    ("network.dns", tried("route to DNS", "ETIMEDOUT")),
    ("network.ipv6", tried("route to IPv6")),
    ("network.vsock", tried("socket AF_VSOCK")),
    ("network.packet", tried("socket AF_PACKET")),
    ("engine_socket", tried("connect /run/docker.sock")),
    ("devices", inside("devices", value=["kvm"])),
    ("read_only.root", inside("mounts", "/", value=[])),
    ("read_only.root", tried("mkdir in /var/tmp")),
    ("read_only.shim", tried("write /opt/agenttrace/shim.pyc")),
    ("read_only.proc_sys", inside("mounts", "/proc/sys", value=["nosuid"])),
    ("read_only.cgroup", tried("write /sys/fs/cgroup/memory/memory.limit_in_bytes")),
    ("tmpfs_size.output", unlimited("filled", "/output")),
    ("tmpfs_size.scratch", unlimited("filled", "/tmp")),
    ("tmpfs_size.shm", unlimited("filled", "/dev/shm")),
    ("tmpfs_size.files", unlimited("files")),
    ("tmpfs_options", inside("mounts", "/tmp", value=["nodev"])),
    ("tmpfs_options", tried("mknod")),
    ("tmpfs_exec", tried("execute in /output")),
    ("tmpfs_exec", tried("execute in /tmp", "EACCES")),
    ("memory.limit", unlimited("memory")),
    ("memory.limit", unlimited("memory", stopped="SIGKILL")),
    ("memory.oom_counter", put("isolation", "measurement", "oom_kills", value=0)),
    ("swap", inside("swap", "together", value="9223372036854771712")),
    ("swap", inside("swap", value={"together": "", "alone": "max", "areas": 0})),
    ("swap", inside("swap", value={"together": "", "alone": "", "areas": 1})),
    ("swap", unlimited("memory", stopped="SIGKILL")),
    ("swap_accounting", inside("swap", value={"together": "", "alone": "", "areas": 0})),
    ("pids", unlimited("processes")),
    ("open_files", unlimited("descriptors")),
    ("core_dumps", inside("rlimits", "core", value=-1)),
    ("file_size", inside("rlimits", "fsize", value=-1)),
    ("shim.memory", tried("read /proc/1/mem")),
    ("shim.signals", tried("kill(1, 0)")),
    ("processes", inside("others", value=[4711])),
    ("hostname", inside("hostname", value=os.uname().nodename)),
    ("cgroup_namespace", inside("cgroups", value=["/docker/0123"])),
    ("cgroup_files", put("isolation", "measurement", "read_from", value="engine_stats")),
    ("cgroup_files", put("isolation", "measurement", "read_from", value="shim_cgroup")),
    ("memory_peak", put("isolation", "measurement", "memory_peak_source", value="sampled")),
    ("memory_peak", put("isolation", "measurement", "memory_peak_bytes", value=12_000_000)),
    ("freezer", put("isolation", "measurement", "read_from", value="engine_stats")),
    ("own_kernel", lambda data: None),
    ("user_namespace", lambda data: None),
    ("apparmor", inside("apparmor", value="unconfined")),
    ("cpus", put("cpus", "measurement", "cpu_user_seconds", value=1.0)),
]


@pytest.mark.parametrize(
    ("name", "change"), MISSING, ids=[f"{i}-{name}" for i, (name, _) in enumerate(MISSING)]
)
async def test_what_is_missing_makes_the_host_unhealthy_where_it_is_required(
    name: str, change: Change
) -> None:
    for required in (name, name.partition(".")[0]):
        report, _ = await examined(change, required=[required])
        found = check(report, name)
        assert found.ok is False, found
        assert found.required
        assert found.remedy
        assert not report.healthy
    report, _ = await examined(change)
    assert report.healthy
    assert not check(report, name).required


def test_every_promise_has_a_host_that_breaks_it() -> None:
    assert {name for name, _ in MISSING} == set(NAMES) - DESCRIPTIONS


# -- a good host -----------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["laptop", "shared-host", "competition"])
async def test_a_good_host_keeps_what_each_profile_promises(profile: str) -> None:
    required = required_by(profile)
    assert set(required) <= set(GUARANTEES)
    report, host = await examined(required=required)
    assert report.healthy, [c for c in report.checks if c.required and not c.ok]
    assert host.open_containers == 0


async def test_a_good_host_keeps_all_but_the_optional_walls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    report, _ = await examined()
    assert {c.name for c in report.checks if not c.ok} == NOT_ON_EVERY_HOST
    assert [c.name for c in report.checks] == ["container", *NAMES]
    assert len(set(NAMES)) == len(NAMES)
    assert all(c.promised and c.found for c in report.checks)
    assert not any(c.remedy for c in report.checks if c.ok)


async def test_two_small_containers_are_enough() -> None:
    _, host = await examined()
    (first, limits, config), (second, cpu_limits, _) = host.asked
    assert (first, second) == ("isolation", "cpus")
    assert (limits, cpu_limits) == (SMALL, QUARTER_CPU)
    assert config["limits"] == {
        "memory_bytes": limits.memory_bytes,
        "pids": limits.pids,
        "open_files": limits.open_files,
        "disk_inodes": limits.disk_inodes,
        "mounts": {"/output": 4 << 20, "/tmp": 12 << 20, "/dev/shm": 4 << 20},
    }


async def test_who_may_not_freeze_a_cgroup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    report, _ = await examined()
    assert check(report, "freezer").ok is None


async def test_stronger_walls_are_seen() -> None:
    report, _ = await examined(
        put("sandbox", "tier", value="runsc"),
        inside("uid_map", value="0 100000 65536"),
        inside("apparmor", value="docker-default (enforce)"),
        required=sorted(NOT_ON_EVERY_HOST),
    )
    assert report.healthy
    assert "docker-default" in check(report, "apparmor").found


async def test_a_kernel_of_its_own_needs_no_filter() -> None:
    report, _ = await examined(
        put("sandbox", "tier", value="runsc"),
        inside("status", "Seccomp", value="0"),
        tried("ptrace", "ESRCH"),
        tried("clone3", "EINVAL"),
        required=["seccomp"],
    )
    assert report.healthy
    assert "own kernel" in check(report, "seccomp.tracing").found


async def test_a_remote_engine_says_who_gives_the_figures() -> None:
    report, _ = await examined(
        put("isolation", "measurement", "read_from", value="engine_stats"),
        put("isolation", "measurement", "memory_peak_source", value="stats_max_usage"),
        required=["memory", "memory_peak"],
    )
    assert report.healthy
    assert "stats API" in check(report, "cgroup_files").found
    assert "pause" in check(report, "freezer").found


@pytest.mark.parametrize(
    "swap",
    [
        {"together": str(128 << 20), "alone": "", "areas": 1},
        {"together": "", "alone": "0", "areas": 1},
        {"together": "", "alone": "", "areas": 0},
    ],
)
async def test_ways_to_have_no_swap(swap: dict[str, object]) -> None:
    report, _ = await examined(inside("swap", value=swap), required=["swap"])
    assert report.healthy


# -- CPU time --------------------------------------------------------------------------------------


async def test_a_host_too_busy_to_tell_proves_nothing() -> None:
    report, _ = await examined(
        put("cpus", "measurement", "cpu_throttled_seconds", value=0.0), required=["cpus"]
    )
    assert check(report, "cpus").ok is None
    assert not report.healthy


@pytest.mark.parametrize(
    ("cores", "after", "used", "healthy"),
    [(1, 1, 0.5, True), (1, 2, 0.5, False), (2, 2, 0.5, False), (1, 1, 1.2, False)],
)
async def test_pinned_cores(cores: int, after: int, used: float, healthy: bool) -> None:
    report, _ = await examined(
        put("sandbox", "applied", "cpuset", value="0"),
        put("cpus", "report", "cores", value=cores),
        put("cpus", "report", "cores_after", value=after),
        put("cpus", "measurement", "cpu_user_seconds", value=used),
        required=["cpus"],
    )
    assert report.healthy is healthy


# -- what it does not know -------------------------------------------------------------------------


async def test_an_unknown_promise_is_not_kept() -> None:
    report, _ = await examined(required=["memory", "teleportation"])
    assert not report.healthy
    assert check(report, "teleportation").ok is False
    assert "does not know 'teleportation'" in check(report, "teleportation").found
    assert "memory" in check(report, "teleportation").remedy


async def test_another_architecture_is_not_vouched_for() -> None:
    def untried(data: dict[str, Any]) -> None:
        del data["isolation"]["report"]["tried"]["bpf"]

    report, _ = await examined(untried, required=["seccomp"])
    assert check(report, "seccomp.bpf").ok is None
    assert not report.healthy


# -- a probe that does not run ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal",
    [
        EngineFailed("the engine refused `start container`: no such runtime", remedy="install it"),
        EngineUnavailable("no engine answers", remedy="start it"),
        LimitNotApplied("the engine did not apply: pids", remedy="upgrade it"),
    ],
)
async def test_a_container_that_cannot_be_had(refusal: RunnerError) -> None:
    report, host = await examined(refusal=refusal, required=["memory"])
    assert not report.healthy
    failed = check(report, "container")
    assert (failed.ok, failed.required) == (False, True)
    assert (failed.found, failed.remedy) == (refusal.message, refusal.remedy)
    assert check(report, "memory.limit").ok is None
    assert check(report, "engine.version").ok is True
    assert host.asked == []


async def test_no_container_is_unhealthy_whatever_is_required() -> None:
    report, _ = await examined(refusal=TimeoutError("still not there"))
    assert not report.healthy
    assert "still not there" in check(report, "container").found


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ending": Ending(kind=EndingKind.CRASHED, detail="killed by SIGKILL")}, "by SIGKILL"),
        ({"ending": Ending(kind=EndingKind.TIMED_OUT, detail="no answer")}, r"\x1b[31mgone"),
        ({"output": ""}, "cannot be read"),
        ({"output": "[]"}, "cannot be read"),
        ({"output": '{"status": {}}'}, "cannot be read"),
        ({"output": json.dumps(RECORDED["isolation"]["report"] | {"more": 1})}, "cannot be read"),
    ],
)
async def test_a_probe_that_does_not_answer(settings: dict[str, Any], words: str) -> None:
    report, host = await examined(required=["seccomp"], **settings)
    assert not report.healthy
    assert words in check(report, "container").found
    assert "\x1b" not in check(report, "container").found
    assert len(host.asked) == 1


async def test_a_probe_that_nobody_measured() -> None:
    report, _ = await examined(put("isolation", "measurement", value=None))
    assert not report.healthy
    assert "measured" in check(report, "container").found


async def test_only_the_second_probe_fails() -> None:
    report, _ = await examined(put("cpus", "report", value={}), required=["memory"])
    assert not report.healthy
    assert check(report, "container").ok is False
    assert check(report, "memory.limit").ok is True
    assert check(report, "cpus").ok is None
