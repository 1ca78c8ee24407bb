"""Judges: what the probe saw and what was measured, against one promise at a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from runner.doctor.probe import CpuReport, IsolationReport, Probed, Reached, whole_cores
from runner.domain import MIB
from runner.domain.mounts import OUTPUT_DIRECTORY, SCRATCH_DIRECTORY

DONE = "done"
FILTERED = frozenset({"EPERM", "EACCES", "ENOSYS", "SIGSYS"})
"""How a refused system call looks; all else comes from a kernel that was reached."""
NO_ROUTE = frozenset({"ENETUNREACH", "EHOSTUNREACH", "EADDRNOTAVAIL", "EAFNOSUPPORT"})
NO_SOCKET = FILTERED | {"EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT"}
OWN_KERNEL_TIERS = ("runsc", "kata")
CPU_SLACK = 1.3
TWO_PERIODS_SECONDS = 0.2
"""A quota is refilled once in 100 ms; one share too many fits in at either end."""
ALMOST = 0.9


@dataclass(frozen=True)
class Finding:
    """Whether a promise is kept, and what was seen; `ok` is None where it cannot be told."""

    ok: bool | None
    found: str


Isolation = Probed[IsolationReport]
Cpus = Probed[CpuReport]


# -- of what was tried ----------------------------------------------------------------------------


def refused(*tries: str, ways: frozenset[str] | None = None) -> Callable[[Isolation], Finding]:
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
        return Finding(True, f"refused: {_grouped(outcomes)}" if outcomes else "nothing to try")

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


def mib(count: int) -> str:
    """As people read a size."""
    return f"{count / MIB:.0f} MiB"


def counted(noun: str) -> Callable[[int], str]:
    """A number with its noun."""
    return lambda count: f"{count} {noun}"


# -- who the agent is -----------------------------------------------------------------------------


def user(probed: Isolation) -> Finding:
    """Not root, and no way back."""
    status = probed.report.status
    ids = f"uid {status.get('Uid')}, gid {status.get('Gid')}, groups {status.get('Groups')!r}"
    root = "0" in f"{status.get('Uid', '0')} {status.get('Gid', '0')}".split()
    back = refused("setresuid(0)", "setresgid(0)", "setgroups(0)")(probed)
    return Finding(back.ok and not root, f"{ids}; the way back to 0 {back.found}")


def capabilities(probed: Isolation) -> Finding:
    """None held, none to be had by executing something."""
    names = ("CapEff", "CapPrm", "CapInh", "CapAmb")
    sets = {name: probed.report.status.get(name, "missing") for name in names}
    held = {name: value for name, value in sets.items() if value.strip("0")}
    if held:
        return Finding(False, f"it holds {', '.join(f'{n} {v}' for n, v in held.items())}")
    return Finding(True, f"all four sets are empty; bound {probed.report.status.get('CapBnd')}")


def no_new_privileges(probed: Isolation) -> Finding:
    """As the kernel has it."""
    value = probed.report.status.get("NoNewPrivs")
    return Finding(value == "1", f"the kernel says NoNewPrivs {value}")


def seccomp_filter(probed: Isolation) -> Finding:
    """As the kernel has it; gVisor and Kata filter where this cannot be seen."""
    mode = probed.report.status.get("Seccomp")
    if mode != "2" and _own_kernel(probed):
        return Finding(True, f"{probed.sandbox.tier} filters outside the container")
    return Finding(mode == "2", f"the kernel says Seccomp {mode}" + (" (filter)" * (mode == "2")))


def clone3(probed: Isolation) -> Finding:
    """ENOSYS and nothing else: libraries fall back on that alone."""
    outcome = probed.report.tried.get("clone3")
    if outcome is None:
        return Finding(None, "not tried on this architecture")
    return Finding(outcome == "ENOSYS" or _own_kernel(probed), outcome)


def processes(probed: Isolation) -> Finding:
    """Nobody else in sight."""
    others = probed.report.others
    found = f"others: {', '.join(map(str, others[:10]))}" if others else "only the shim and itself"
    return Finding(not others, found)


def hostname(probed: Isolation) -> Finding:
    """Not this host's."""
    name = probed.report.hostname
    return Finding(name != socket.gethostname(), f"it is called {name!a}")


def cgroup_namespace(probed: Isolation) -> Finding:
    """Every path is its root."""
    outside = sorted({path for path in probed.report.cgroups if path != "/"})
    return Finding(not outside, f"it sees {', '.join(outside) or '/ alone'}")


def devices(probed: Isolation) -> Finding:
    """None that no program needs."""
    found = probed.report.devices
    return Finding(not found, f"also {', '.join(found)}" if found else "only the usual ones")


# -- where it may write ---------------------------------------------------------------------------


def read_only(path: str, *tries: str) -> Callable[[Isolation], Finding]:
    """A judge: mounted so, and writes are refused."""

    def judge(probed: Isolation) -> Finding:
        finding = refused(*tries)(probed)
        options = probed.report.mounts.get(path, ())
        mounted = f"{path} is mounted {'read-only' if 'ro' in options else 'WRITABLE'}"
        return Finding(finding.ok and "ro" in options, f"{mounted}; {finding.found}")

    return judge


def cgroup_writes(probed: Isolation) -> Finding:
    """Whatever the version's files are called."""
    return refused(*(name for name in probed.report.tried if "/sys/fs/cgroup" in name))(probed)


def tmpfs_options(probed: Isolation) -> Finding:
    """Each is nosuid and nodev, and no device can be made."""
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


def tmpfs_exec(probed: Isolation) -> Finding:
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


def oom_counter(probed: Isolation) -> Finding:
    """At least the one that was provoked."""
    count = probed.measurement.oom_kills
    return Finding(count > 0, f"out-of-memory kills that the kernel counted: {count}")


def swap(probed: Isolation) -> Finding:
    """Nothing beyond the memory limit, by deed and by the kernel's own figure."""
    swap, limit = probed.report.swap, probed.limits.memory_bytes
    if probed.report.memory.written > limit:
        return Finding(False, f"it got {mib(probed.report.memory.written)} of {mib(limit)}")
    if swap.together:
        together = int(swap.together) if swap.together.isdecimal() else 0
        return Finding(
            together == limit, f"memory and swap together: {mib(together)}, memory {mib(limit)}"
        )
    if swap.alone:
        return Finding(swap.alone == "0", f"swap: {swap.alone} bytes")
    if swap.areas == 0:
        return Finding(True, "the kernel does not account for swap, and this host has none")
    return Finding(False, f"not limited, and this host has {swap.areas} swap areas")


def swap_accounting(probed: Isolation) -> Finding:
    """Whether the kernel could limit swap, needed or not."""
    accounted = bool(probed.report.swap.together or probed.report.swap.alone)
    areas = probed.report.swap.areas
    words = "the kernel accounts for swap" if accounted else "the kernel does not account for swap"
    return Finding(accounted, f"{words}; the host has {areas or 'no'} swap areas")


def rlimit(name: str, wanted: Callable[[Isolation], int]) -> Callable[[Isolation], Finding]:
    """A judge: the hard limit is what was asked."""

    def judge(probed: Isolation) -> Finding:
        hard, limit = probed.report.rlimits.get(name), wanted(probed)
        return Finding(hard == limit, f"hard limit {hard}, asked {limit}")

    return judge


def pids(probed: Isolation) -> Finding:
    """Forks are refused before the limit is passed."""
    finding = stopped(lambda r: r.processes, "EAGAIN", counted("processes"))(probed)
    return Finding(
        finding.ok, f"{finding.found}; refusals counted: {probed.measurement.pids_limit_hits}"
    )


def cpus(probed: Cpus) -> Finding:
    """No more CPU time than the quota gives, or than the pinned cores."""
    if probed.sandbox.applied.get("cpuset"):
        return _pinned(probed)
    used, wall = probed.measurement.cpu_seconds, probed.wall_seconds
    throttled = probed.measurement.cpu_throttled_seconds
    words = (
        f"{used:.2f} CPU-seconds in {wall:.2f} s at {probed.limits.cpus:g} CPUs,"
        f" throttled for {throttled:.2f} s"
    )
    if used > probed.limits.cpus * (wall + TWO_PERIODS_SECONDS) * CPU_SLACK:
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


def cgroup_files(probed: Isolation) -> Finding:
    """Who gives the figures."""
    match probed.measurement.read_from:
        case "host_cgroup":
            return Finding(True, "read from the cgroup's files on this host")
        case "engine_stats":
            return Finding(False, "not reachable: the engine's stats API gives the figures")
        case "shim_cgroup":
            return Finding(False, "not reachable: the shim reads them inside the container")


def memory_peak(probed: Isolation) -> Finding:
    """Whose figure it is, and that it saw what was touched."""
    measured, touched = probed.measurement, probed.report.memory.written
    peak, source = measured.memory_peak_bytes, measured.memory_peak_source
    words = f"{mib(peak)} when {mib(touched)} had been touched; from {source}"
    return Finding(source != "sampled" and peak >= ALMOST * touched, words)


def freezer(probed: Isolation) -> Finding:
    """Who stops the container for its measurement; told from what gave the figures."""
    if probed.measurement.read_from != "host_cgroup":
        return Finding(False, "the engine's pause")
    if os.geteuid() == 0:
        return Finding(True, "the cgroup's freezer")
    return Finding(None, "the engine's pause, unless this user may write to the cgroup")


# -- what the host is -----------------------------------------------------------------------------


def at_least(version: str, oldest: tuple[int, ...]) -> bool | None:
    """Whether a dotted version is no older; None when it is not one."""
    try:
        return tuple(int(part) for part in version.split(".")[: len(oldest)]) >= oldest
    except ValueError:
        return None


def tier(probed: Isolation) -> Finding:
    """What the engine calls it."""
    facts = probed.sandbox
    shared = "a kernel of its own" if _own_kernel(probed) else "the host's kernel, shared"
    return Finding(True, f"{facts.tier} (runtime {facts.runtime}): {shared}")


def own_kernel(probed: Isolation) -> Finding:
    """True isolation from the kernel: gVisor, Kata."""
    kernel = "its own" if _own_kernel(probed) else "the host's"
    return Finding(_own_kernel(probed), f"the kernel under the agent is {kernel}")


def user_namespace(probed: Isolation) -> Finding:
    """Whom uid 0 is mapped to."""
    entries = probed.report.uid_map.split()
    if len(entries) < 3:
        return Finding(None, "the map cannot be read")
    return Finding(entries[1] != "0", f"uid {entries[0]} in it is uid {entries[1]} outside")


def apparmor(probed: Isolation) -> Finding:
    """The profile that the kernel enforces on it."""
    profile = probed.report.apparmor
    confined = bool(profile) and not profile.startswith("unconfined")
    return Finding(confined, f"profile {profile!a}" if profile else "no profile")
