"""What a host promises, one named promise each, and how a probe's findings are judged."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from runner.domain import MIB
from runner.domain.mounts import (
    OUTPUT_DIRECTORY,
    SCRATCH_DIRECTORY,
    SHARED_MEMORY,
    SHIM_DIRECTORY,
)
from runner.evaluation.probe import CpuReport, IsolationReport, Probed, Reached, whole_cores

OLDEST_ENGINE, OLDEST_API = (20, 10), (1, 41)
DONE = "done"
FILTERED = frozenset({"EPERM", "EACCES", "ENOSYS", "SIGSYS"})
"""How a refused system call looks; all else comes from a kernel that was reached."""
NO_ROUTE = frozenset({"ENETUNREACH", "EHOSTUNREACH", "EADDRNOTAVAIL", "EAFNOSUPPORT"})
NO_SOCKET = FILTERED | {"EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT"}
OWN_KERNEL_TIERS = ("runsc", "kata")
CPU_SLACK = 1.2
CPU_PERIOD_SECONDS = 0.1
"""What a quota may be overdrawn by is about one period's share."""
ALMOST = 0.9
OUR_FILTER = 'set sandbox.seccomp to "default"'
OUR_SETTINGS = "report this: the engine takes the setting and does not keep it"


@dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """What the engine says of itself."""

    version: str
    api_version: str
    kernel: str
    cgroup_version: Literal[1, 2]
    cgroup_driver: str
    storage_driver: str
    runtimes: tuple[str, ...]
    security_options: tuple[str, ...]
    """Names: seccomp, apparmor, selinux, userns, rootless, cgroupns."""


@dataclass(frozen=True)
class Finding:
    """Whether a promise is kept, and what was seen; `ok` is None where it cannot be told."""

    ok: bool | None
    found: str


E = TypeVar("E")
Isolation = Probed[IsolationReport]
Cpus = Probed[CpuReport]


@dataclass(frozen=True, kw_only=True)
class Promise(Generic[E]):
    """One line of the report; its name may be part of a guarantee: `network.dns` of `network`."""

    name: str
    promised: str
    judge: Callable[[E], Finding]
    remedy: str = OUR_SETTINGS


# -- of what was tried ----------------------------------------------------------------------------


def refused(
    *tries: str, ways: frozenset[str] | None = None
) -> Callable[[Isolation], Finding]:
    """A judge: each of `tries` was refused (in one of `ways`; None: in any)."""

    def judge(probed: Isolation) -> Finding:
        outcomes = {name: probed.report.tried.get(name) for name in tries}
        got_through = {
            name: outcome
            for name, outcome in outcomes.items()
            if outcome is not None and (outcome == DONE or (ways and outcome not in ways))
        }
        if got_through:
            return Finding(False, f"not refused: {_pairs(got_through)}")
        if None in outcomes.values():
            return Finding(None, "not tried on this architecture")
        return Finding(True, f"refused: {_grouped(outcomes)}")

    return judge


def filtered(*calls: str) -> Callable[[Isolation], Finding]:
    """A judge: no such call reaches the host's kernel."""

    def judge(probed: Isolation) -> Finding:
        finding = refused(*calls, ways=FILTERED)(probed)
        if not finding.ok and _own_kernel(probed):
            return Finding(True, f"reaches the container's own kernel alone; {finding.found}")
        return finding

    return judge


def _own_kernel(probed: Isolation) -> bool:
    return probed.sandbox.tier.startswith(OWN_KERNEL_TIERS)


def _pairs(outcomes: dict[str, str]) -> str:
    return ", ".join(
        name if outcome == DONE else f"{name} ({outcome})" for name, outcome in outcomes.items()
    )


def _grouped(outcomes: dict[str, str | None]) -> str:
    """`EPERM (mount, umount2), ENOSYS (clone3)`."""
    ways: dict[str, list[str]] = {}
    for name, outcome in outcomes.items():
        ways.setdefault(str(outcome), []).append(name)
    return ", ".join(f"{way} ({', '.join(names)})" for way, names in ways.items())


def stopped(
    reached: Callable[[IsolationReport], Reached | None],
    by: str,
    unit: Callable[[int], str],
) -> Callable[[Isolation], Finding]:
    """A judge: a limit stopped it, in the way that such a limit does, and not later than it."""

    def judge(probed: Isolation) -> Finding:
        found = reached(probed.report)
        if found is None:
            return Finding(None, "not tried")
        held = found.stopped == by and found.written <= found.promised
        way = "nothing stopped it" if found.stopped == DONE else f"stopped by {found.stopped}"
        found_words = f"{way} at {unit(found.written)}; the limit is {unit(found.promised)}"
        return Finding(held, found_words)

    return judge


def _mib(count: int) -> str:
    return f"{count / MIB:.0f} MiB"


def _counted(noun: str) -> Callable[[int], str]:
    return lambda count: f"{count} {noun}"


# -- who the agent is -----------------------------------------------------------------------------


def _user(probed: Isolation) -> Finding:
    status = probed.report.status
    ids = f"uid {status.get('Uid')}, gid {status.get('Gid')}, groups {status.get('Groups')!r}"
    root = "0" in f"{status.get('Uid', '0')} {status.get('Gid', '0')}".split()
    back = refused("setresuid(0)", "setresgid(0)", "setgroups(0)")(probed)
    return Finding(back.ok and not root, f"{ids}; the way back to 0 {back.found}")


def _capabilities(probed: Isolation) -> Finding:
    names = ("CapEff", "CapPrm", "CapInh", "CapAmb")
    sets = {name: probed.report.status.get(name, "missing") for name in names}
    held = {name: value for name, value in sets.items() if value.strip("0")}
    if held:
        return Finding(False, f"it holds {', '.join(f'{n} {v}' for n, v in held.items())}")
    return Finding(True, f"all four sets are empty; bound {probed.report.status.get('CapBnd')}")


def _no_new_privileges(probed: Isolation) -> Finding:
    value = probed.report.status.get("NoNewPrivs")
    return Finding(value == "1", f"the kernel says NoNewPrivs {value}")


def _seccomp_filter(probed: Isolation) -> Finding:
    mode = probed.report.status.get("Seccomp")
    if mode != "2" and _own_kernel(probed):
        return Finding(True, f"{probed.sandbox.tier} filters outside the container")
    return Finding(mode == "2", f"the kernel says Seccomp {mode}" + (" (filter)" * (mode == "2")))


def _clone3(probed: Isolation) -> Finding:
    outcome = probed.report.tried.get("clone3")
    if outcome is None or _own_kernel(probed):
        return Finding(True if outcome else None, f"{outcome or 'not tried'}")
    return Finding(outcome == "ENOSYS", outcome)


def _processes(probed: Isolation) -> Finding:
    others = probed.report.others
    found = f"others: {', '.join(map(str, others[:10]))}" if others else "only the shim and itself"
    return Finding(not others, found)


def _hostname(probed: Isolation) -> Finding:
    name = probed.report.hostname
    return Finding(name != socket.gethostname(), f"it is called {name!a}")


def _cgroup_namespace(probed: Isolation) -> Finding:
    outside = sorted({path for path in probed.report.cgroups if path != "/"})
    return Finding(not outside, f"it sees {', '.join(outside) or '/ alone'}")


def _devices(probed: Isolation) -> Finding:
    found = probed.report.devices
    return Finding(not found, f"also {', '.join(found)}" if found else "only the usual ones")


# -- where it may write ---------------------------------------------------------------------------


def _read_only(path: str, *tries: str) -> Callable[[Isolation], Finding]:
    def judge(probed: Isolation) -> Finding:
        finding = refused(*tries)(probed)
        options = probed.report.mounts.get(path, ())
        mounted = f"{path} is mounted {'read-only' if 'ro' in options else 'WRITABLE'}"
        return Finding(finding.ok and "ro" in options, f"{mounted}; {finding.found}")

    return judge


def _cgroup_writes(probed: Isolation) -> Finding:
    return refused(*(name for name in probed.report.tried if "/sys/fs/cgroup" in name))(probed)


def _tmpfs_options(probed: Isolation) -> Finding:
    mounts = {path: probed.report.mounts.get(path, ()) for path in probed.report.filled}
    loose = [
        f"{path} lacks {option}"
        for path, options in mounts.items()
        for option in ("nosuid", "nodev")
        if option not in options
    ]
    device = refused("mknod")(probed)
    words = "; ".join(loose) or f"nosuid, nodev: {', '.join(mounts)}"
    return Finding(device.ok and not loose, f"{words}; mknod {device.found}")


def _tmpfs_exec(probed: Isolation) -> Finding:
    """As configured, read back from the live container: `exec` or `noexec` of each mount."""
    applied = dict(
        mount.split(":", 1) for mount in str(probed.sandbox.applied.get("tmpfs", "")).split()
    )
    judged = {
        path: (
            "noexec" not in applied.get(path, "noexec").split(","),
            probed.report.tried.get(f"execute in {path}") == DONE,
        )
        for path in (SCRATCH_DIRECTORY, OUTPUT_DIRECTORY)
    }
    words = [f"{path}: {'can' if can else 'cannot'}" for path, (_, can) in judged.items()]
    return Finding(all(asked == can for asked, can in judged.values()), ", ".join(words))


# -- how much it may use --------------------------------------------------------------------------


def _oom_counter(probed: Isolation) -> Finding:
    count = probed.measurement.oom_kills
    return Finding(count > 0, f"the kernel counted {count} out-of-memory kills")


def _swap(probed: Isolation) -> Finding:
    swap, limit = probed.report.swap, probed.limits.memory_bytes
    if probed.report.memory.written > limit:
        return Finding(False, f"it got {_mib(probed.report.memory.written)} of {_mib(limit)}")
    if swap.together:
        together = int(swap.together) if swap.together.isdecimal() else 0
        return Finding(
            together == limit, f"memory and swap together: {_mib(together)}, memory {_mib(limit)}"
        )
    if swap.alone:
        return Finding(swap.alone == "0", f"swap: {swap.alone} bytes")
    if swap.areas == 0:
        return Finding(True, "the kernel does not account for swap, and this host has none")
    return Finding(False, f"not limited, and this host has {swap.areas} swap areas")


def _swap_accounting(probed: Isolation) -> Finding:
    accounted = bool(probed.report.swap.together or probed.report.swap.alone)
    areas = probed.report.swap.areas
    words = "the kernel accounts for swap" if accounted else "the kernel does not account for swap"
    return Finding(accounted, f"{words}; the host has {areas or 'no'} swap areas")


def _rlimit(name: str, wanted: Callable[[Isolation], int]) -> Callable[[Isolation], Finding]:
    def judge(probed: Isolation) -> Finding:
        hard, limit = probed.report.rlimits.get(name), wanted(probed)
        return Finding(hard == limit, f"hard limit {hard}, asked {limit}")

    return judge


def _pids(probed: Isolation) -> Finding:
    finding = stopped(lambda r: r.processes, "EAGAIN", _counted("processes"))(probed)
    return Finding(
        finding.ok, f"{finding.found}; {probed.measurement.pids_limit_hits} refusals were counted"
    )


def _cpus(probed: Cpus) -> Finding:
    if probed.sandbox.applied.get("cpuset"):
        return _pinned(probed)
    used, wall = probed.measurement.cpu_seconds, probed.wall_seconds
    throttled = probed.measurement.cpu_throttled_seconds
    words = (
        f"{used:.2f} CPU-seconds in {wall:.2f} s at {probed.limits.cpus:g} CPUs,"
        f" throttled for {throttled:.2f} s"
    )
    if used > probed.limits.cpus * (wall + CPU_PERIOD_SECONDS) * CPU_SLACK:
        return Finding(False, words)
    return Finding(True if throttled else None, words)


def _pinned(probed: Cpus) -> Finding:
    cores, report = whole_cores(probed.limits), probed.report
    used, wall = probed.measurement.cpu_seconds, probed.wall_seconds
    kept = report.cores == report.cores_after == cores and used <= cores * wall * CPU_SLACK
    return Finding(
        kept,
        f"core {probed.sandbox.applied['cpuset']}: {report.cores} seen, {report.cores_after} after"
        f" asking for all; {used:.2f} CPU-seconds in {wall:.2f} s",
    )


# -- how it is measured ---------------------------------------------------------------------------


def _cgroup_files(probed: Isolation) -> Finding:
    match probed.measurement.read_from:
        case "host_cgroup":
            return Finding(True, "read from the cgroup's files on this host")
        case "engine_stats":
            return Finding(False, "not reachable: the engine's stats API gives the figures")
        case "shim_cgroup":
            return Finding(False, "not reachable: the shim reads them inside the container")


def _memory_peak(probed: Isolation) -> Finding:
    measured, touched = probed.measurement, probed.report.memory.written
    peak, source = measured.memory_peak_bytes, measured.memory_peak_source
    words = f"{_mib(peak)} when {_mib(touched)} had been touched; from {source}"
    return Finding(source != "sampled" and peak >= ALMOST * touched, words)


def _freezer(probed: Isolation) -> Finding:
    if probed.measurement.read_from != "host_cgroup":
        return Finding(False, "the engine's pause")
    if os.geteuid() == 0:
        return Finding(True, "the cgroup's freezer")
    return Finding(None, "the engine's pause, unless this user may write to the cgroup")


# -- what the host is -----------------------------------------------------------------------------


def _at_least(version: str, oldest: tuple[int, ...]) -> bool | None:
    try:
        return tuple(int(part) for part in version.split(".")[: len(oldest)]) >= oldest
    except ValueError:
        return None


def _tier(probed: Isolation) -> Finding:
    facts = probed.sandbox
    shared = "a kernel of its own" if _own_kernel(probed) else "the host's kernel, shared"
    return Finding(True, f"{facts.tier} (runtime {facts.runtime}): {shared}")


def _own_kernel_promise(probed: Isolation) -> Finding:
    kernel = "its own" if _own_kernel(probed) else "the host's"
    return Finding(_own_kernel(probed), f"the kernel under the agent is {kernel}")


def _user_namespace(probed: Isolation) -> Finding:
    entries = probed.report.uid_map.split()
    if len(entries) < 3:
        return Finding(None, "the map cannot be read")
    return Finding(entries[1] != "0", f"uid {entries[0]} in it is uid {entries[1]} outside")


def _apparmor(probed: Isolation) -> Finding:
    profile = probed.report.apparmor
    confined = bool(profile) and not profile.startswith("unconfined")
    return Finding(confined, f"profile {profile!a}" if profile else "no profile")


ENGINE: tuple[Promise[EngineFacts], ...] = (
    Promise(
        name="engine.version",
        promised="Docker engine 20.10 or newer",
        judge=lambda engine: Finding(
            _at_least(engine.version, OLDEST_ENGINE), f"{engine.version}, Linux {engine.kernel}"
        ),
        remedy="upgrade the engine",
    ),
    Promise(
        name="engine.api",
        promised="engine API 1.41 or newer",
        judge=lambda engine: Finding(
            _at_least(engine.api_version, OLDEST_API), engine.api_version
        ),
        remedy="upgrade the engine",
    ),
    Promise(
        name="engine.cgroup",
        promised="cgroup version 1 or 2",
        judge=lambda engine: Finding(
            True, f"version {engine.cgroup_version}, driver {engine.cgroup_driver}"
        ),
    ),
    Promise(
        name="engine.storage",
        promised="a storage driver that shares layers",
        judge=lambda engine: Finding(engine.storage_driver != "vfs", engine.storage_driver),
        remedy="use overlay2: vfs copies the whole image for each container",
    ),
    Promise(
        name="engine.runtimes",
        promised="an OCI runtime",
        judge=lambda engine: Finding(True, ", ".join(engine.runtimes) or "not named"),
    ),
    Promise(
        name="engine.seccomp",
        promised="the engine can filter system calls",
        judge=lambda engine: Finding(
            "seccomp" in engine.security_options, ", ".join(engine.security_options)
        ),
        remedy="use an engine built with seccomp on a kernel with CONFIG_SECCOMP_FILTER",
    ),
)

ISOLATION: tuple[Promise[Isolation], ...] = (
    Promise(name="isolation", promised="a tier of isolation, on record", judge=_tier),
    Promise(
        name="own_kernel",
        promised="agents do not talk to the host's kernel",
        judge=_own_kernel_promise,
        remedy="for strangers' agents, install gVisor and set engine.runtime to runsc",
    ),
    Promise(
        name="user_namespace",
        promised="uid 0 of the container is nobody outside",
        judge=_user_namespace,
        remedy="for a second wall, start the engine with userns-remap, or rootless",
    ),
    Promise(
        name="apparmor",
        promised="an AppArmor profile on top of the filter",
        judge=_apparmor,
        remedy="enable AppArmor on this host, if its kernel has it",
    ),
    # who the agent is
    Promise(
        name="user",
        promised="the agent is not root and cannot become it",
        judge=_user,
    ),
    Promise(name="capabilities", promised="the agent has no capability", judge=_capabilities),
    Promise(
        name="no_new_privileges",
        promised="no program can give it privileges",
        judge=_no_new_privileges,
    ),
    # what it may ask of the kernel
    Promise(
        name="seccomp.filter",
        promised="system calls are filtered",
        judge=_seccomp_filter,
        remedy="use an engine with seccomp",
    ),
    Promise(
        name="seccomp.io_uring",
        promised="no io_uring",
        judge=filtered("io_uring_setup", "io_uring_enter"),
        remedy=OUR_FILTER,
    ),
    Promise(
        name="seccomp.tracing",
        promised="no reading or steering of other processes",
        judge=filtered("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd"),
        remedy=OUR_FILTER,
    ),
    Promise(
        name="seccomp.userfaultfd",
        promised="no userfaultfd",
        judge=filtered("userfaultfd"),
        remedy=OUR_FILTER,
    ),
    Promise(
        name="seccomp.bpf", promised="no BPF programs", judge=filtered("bpf"), remedy=OUR_FILTER
    ),
    Promise(
        name="seccomp.perf",
        promised="no performance counters",
        judge=filtered("perf_event_open"),
        remedy=OUR_FILTER,
    ),
    Promise(
        name="seccomp.keyrings",
        promised="no kernel keyrings, which no namespace separates",
        judge=filtered("keyctl", "add_key", "request_key"),
        remedy=OUR_FILTER,
    ),
    Promise(
        name="seccomp.mounts",
        promised="no mounting, no handles around the mounts",
        judge=filtered("mount", "umount2", "open_tree", "fsopen", "open_by_handle_at"),
        remedy=OUR_FILTER,
    ),
    Promise(
        name="seccomp.namespaces",
        promised="no new or other namespaces",
        judge=filtered(
            "unshare(CLONE_NEWUSER)", "clone(CLONE_NEWUSER)", "clone(CLONE_NEWNS)", "setns"
        ),
        remedy=OUR_FILTER,
    ),
    Promise(
        name="seccomp.clone3",
        promised="clone3 is ENOSYS, so that libraries fall back to clone, whose flags can be seen",
        judge=_clone3,
        remedy=OUR_FILTER,
    ),
    Promise(
        name="seccomp.crypto",
        promised="no AF_ALG sockets to the kernel's cryptography",
        judge=refused("socket AF_ALG", ways=NO_SOCKET),
        remedy=OUR_FILTER,
    ),
    # what it may reach
    Promise(
        name="network.interfaces",
        promised="loopback is the only interface",
        judge=lambda probed: Finding(
            set(probed.report.interfaces) <= {"lo"}, ", ".join(probed.report.interfaces) or "none"
        ),
    ),
    Promise(
        name="network.bridge",
        promised="no route to the host or other containers",
        judge=refused("route to the engine's bridge", ways=NO_ROUTE),
    ),
    Promise(
        name="network.metadata",
        promised="no route to a cloud's metadata",
        judge=refused("route to metadata", ways=NO_ROUTE),
    ),
    Promise(
        name="network.dns",
        promised="no route to name servers",
        judge=refused("route to DNS", ways=NO_ROUTE),
    ),
    Promise(
        name="network.ipv6",
        promised="no route over IPv6",
        judge=refused("route to IPv6", "route to private IPv6", ways=NO_ROUTE),
    ),
    Promise(
        name="network.vsock",
        promised="no AF_VSOCK sockets to a hypervisor: namespaces do not separate them",
        judge=refused("socket AF_VSOCK", ways=NO_SOCKET),
        remedy=OUR_FILTER,
    ),
    Promise(
        name="network.packet",
        promised="no raw or packet sockets",
        judge=refused("socket AF_PACKET", "socket raw IP", ways=NO_SOCKET),
        remedy=OUR_FILTER,
    ),
    Promise(
        name="engine_socket",
        promised="the engine's socket is not in the container",
        judge=refused(
            "connect /run/docker.sock",
            "connect /var/run/docker.sock",
            "connect /run/containerd/containerd.sock",
        ),
    ),
    Promise(name="devices", promised="no devices but the usual ones", judge=_devices),
    # where it may write
    Promise(
        name="read_only.root",
        promised="the image's files cannot be changed",
        judge=_read_only("/", "mkdir in /", "mkdir in /etc", "mkdir in /var/tmp"),
    ),
    Promise(
        name="read_only.shim",
        promised="the shim's files cannot be changed",
        judge=_read_only(
            SHIM_DIRECTORY, f"mkdir in {SHIM_DIRECTORY}", f"write {SHIM_DIRECTORY}/shim.pyc"
        ),
    ),
    Promise(
        name="read_only.proc_sys",
        promised="the kernel's settings cannot be changed",
        judge=_read_only(
            "/proc/sys", "write /proc/sys/kernel/hostname", "write /proc/sysrq-trigger"
        ),
    ),
    Promise(
        name="read_only.cgroup",
        promised="the limits cannot be changed from inside",
        judge=_cgroup_writes,
    ),
    Promise(
        name="tmpfs_size.output",
        promised=f"{OUTPUT_DIRECTORY} has a size",
        judge=stopped(lambda r: r.filled.get(OUTPUT_DIRECTORY), "ENOSPC", _mib),
    ),
    Promise(
        name="tmpfs_size.scratch",
        promised=f"{SCRATCH_DIRECTORY} has a size",
        judge=stopped(lambda r: r.filled.get(SCRATCH_DIRECTORY), "ENOSPC", _mib),
    ),
    Promise(
        name="tmpfs_size.shm",
        promised=f"{SHARED_MEMORY} has a size",
        judge=stopped(lambda r: r.filled.get(SHARED_MEMORY), "ENOSPC", _mib),
    ),
    Promise(
        name="tmpfs_size.files",
        promised="the number of files is limited",
        judge=stopped(lambda r: r.files, "ENOSPC", _counted("files")),
    ),
    Promise(
        name="tmpfs_options",
        promised="nothing setuid and no devices in writable space",
        judge=_tmpfs_options,
    ),
    Promise(
        name="tmpfs_exec",
        promised="programs in writable space run where the settings say so, and nowhere else",
        judge=_tmpfs_exec,
    ),
    # how much it may use
    Promise(
        name="memory.limit",
        promised="the kernel ends what takes more memory than the limit, and the shim lives",
        judge=stopped(lambda r: r.memory, "SIGKILL", _mib),
        remedy="enable the memory controller: boot with cgroup_enable=memory",
    ),
    Promise(
        name="memory.oom_counter",
        promised="the kernel counts what it ended, so that the verdict can say so",
        judge=_oom_counter,
        remedy="use Linux 4.13 or newer",
    ),
    Promise(
        name="swap",
        promised="no swap on top of the memory limit",
        judge=_swap,
        remedy="boot with swapaccount=1, or turn swap off",
    ),
    Promise(
        name="swap_accounting",
        promised="the kernel accounts for swap",
        judge=_swap_accounting,
        remedy="boot with swapaccount=1, should this host get swap",
    ),
    Promise(
        name="pids",
        promised="processes and threads are limited",
        judge=_pids,
        remedy="use a kernel with the pids controller",
    ),
    Promise(
        name="open_files",
        promised="open files are limited",
        judge=stopped(lambda r: r.descriptors, "EMFILE", _counted("descriptors")),
    ),
    Promise(
        name="core_dumps", promised="no core dumps", judge=_rlimit("core", lambda _: 0)
    ),
    Promise(
        name="file_size",
        promised="no file is larger than the disk limit",
        judge=_rlimit("fsize", lambda probed: probed.limits.disk_bytes),
    ),
    # whom it may touch
    Promise(
        name="shim.memory",
        promised="memory, environment and files of the shim are out of reach",
        judge=refused(
            *(f"read /proc/1/{name}" for name in ("environ", "mem", "maps", "stack")),
            *(f"readlink /proc/1/{name}" for name in ("exe", "cwd", "root")),
            "list /proc/1/fd",
        ),
    ),
    Promise(
        name="shim.signals",
        promised="the shim cannot be signalled",
        judge=refused("kill(1, 0)", "kill(1, SIGCONT)"),
    ),
    Promise(
        name="processes", promised="processes of the host are invisible", judge=_processes
    ),
    Promise(name="hostname", promised="the host's name is unknown", judge=_hostname),
    Promise(
        name="cgroup_namespace",
        promised="the host's cgroups are invisible",
        judge=_cgroup_namespace,
    ),
    # how it is measured
    Promise(
        name="cgroup_files",
        promised="figures come from the cgroup's files on this host",
        judge=_cgroup_files,
        remedy="run on the engine's own host, not in a container",
    ),
    Promise(
        name="memory_peak",
        promised="the kernel itself keeps the peak of memory",
        judge=_memory_peak,
        remedy="use cgroup version 1, or Linux 5.19 or newer",
    ),
    Promise(
        name="freezer",
        promised="at the deadline everything is frozen through the cgroup, at once",
        judge=_freezer,
        remedy="run as root on the engine's own host to save some 15 ms each attempt",
    ),
)

CPUS: tuple[Promise[Cpus], ...] = (
    Promise(
        name="cpus",
        promised="no more CPU time than the limit, or no more cores where they are pinned",
        judge=_cpus,
        remedy="use a kernel with CFS bandwidth control; on a busy host, try again",
    ),
)


def names() -> Iterable[str]:
    """Names of everything that is promised."""
    return [promise.name for promise in (*ENGINE, *ISOLATION, *CPUS)]
