"""What a host promises: one line of the doctor's report each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from runner.doctor import findings as seen
from runner.doctor.findings import (
    NO_ROUTE,
    NO_SOCKET,
    Cpus,
    Finding,
    Isolation,
    filtered,
    refused,
    stopped,
)
from runner.domain.mounts import (
    OUTPUT_DIRECTORY,
    SCRATCH_DIRECTORY,
    SHARED_MEMORY,
    SHIM_DIRECTORY,
)

OLDEST_ENGINE, OLDEST_API = (20, 10), (1, 41)
OUR_FILTER = 'set sandbox.seccomp to "default"'
OUR_SETTINGS = "report this: the engine takes the setting and does not keep it"

E = TypeVar("E")


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


@dataclass(frozen=True, kw_only=True)
class Promise(Generic[E]):
    """One line of the report; its name may be part of a guarantee: `network.dns` of `network`."""

    name: str
    promised: str
    judge: Callable[[E], Finding]
    remedy: str = OUR_SETTINGS


ENGINE: tuple[Promise[EngineFacts], ...] = (
    Promise(
        name="engine.version",
        promised="Docker engine 20.10 or newer",
        judge=lambda engine: Finding(
            seen.at_least(engine.version, OLDEST_ENGINE), f"{engine.version}, Linux {engine.kernel}"
        ),
        remedy="upgrade the engine",
    ),
    Promise(
        name="engine.api",
        promised="engine API 1.41 or newer",
        judge=lambda engine: Finding(
            seen.at_least(engine.api_version, OLDEST_API), engine.api_version
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
    Promise(name="isolation", promised="a tier of isolation, on record", judge=seen.tier),
    Promise(
        name="own_kernel",
        promised="agents do not talk to the host's kernel",
        judge=seen.own_kernel,
        remedy="for strangers' agents, install gVisor and set engine.runtime to runsc",
    ),
    Promise(
        name="user_namespace",
        promised="uid 0 of the container is nobody outside",
        judge=seen.user_namespace,
        remedy="for a second wall, start the engine with userns-remap, or rootless",
    ),
    Promise(
        name="apparmor",
        promised="an AppArmor profile on top of the filter",
        judge=seen.apparmor,
        remedy="enable AppArmor on this host, if its kernel has it",
    ),
    # who the agent is
    Promise(
        name="user",
        promised="the agent is not root and cannot become it",
        judge=seen.user,
    ),
    Promise(name="capabilities", promised="the agent has no capability", judge=seen.capabilities),
    Promise(
        name="no_new_privileges",
        promised="no program can give it privileges",
        judge=seen.no_new_privileges,
    ),
    # what it may ask of the kernel
    Promise(
        name="seccomp.filter",
        promised="system calls are filtered",
        judge=seen.seccomp_filter,
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
        judge=seen.clone3,
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
    Promise(name="devices", promised="no devices but the usual ones", judge=seen.devices),
    # where it may write
    Promise(
        name="read_only.root",
        promised="the image's files cannot be changed",
        judge=seen.read_only("/", "mkdir in /", "mkdir in /etc", "mkdir in /var/tmp"),
    ),
    Promise(
        name="read_only.shim",
        promised="the shim's files cannot be changed",
        judge=seen.read_only(
            SHIM_DIRECTORY, f"mkdir in {SHIM_DIRECTORY}", f"write {SHIM_DIRECTORY}/shim.pyc"
        ),
    ),
    Promise(
        name="read_only.proc_sys",
        promised="the kernel's settings cannot be changed",
        judge=seen.read_only(
            "/proc/sys", "write /proc/sys/kernel/hostname", "write /proc/sysrq-trigger"
        ),
    ),
    Promise(
        name="read_only.cgroup",
        promised="the limits cannot be changed from inside",
        judge=seen.cgroup_writes,
    ),
    Promise(
        name="tmpfs_size.output",
        promised=f"{OUTPUT_DIRECTORY} has a size",
        judge=stopped(lambda r: r.filled.get(OUTPUT_DIRECTORY), "ENOSPC", seen.mib),
    ),
    Promise(
        name="tmpfs_size.scratch",
        promised=f"{SCRATCH_DIRECTORY} has a size",
        judge=stopped(lambda r: r.filled.get(SCRATCH_DIRECTORY), "ENOSPC", seen.mib),
    ),
    Promise(
        name="tmpfs_size.shm",
        promised=f"{SHARED_MEMORY} has a size",
        judge=stopped(lambda r: r.filled.get(SHARED_MEMORY), "ENOSPC", seen.mib),
    ),
    Promise(
        name="tmpfs_size.files",
        promised="the number of files is limited",
        judge=stopped(lambda r: r.files, "ENOSPC", seen.counted("files")),
    ),
    Promise(
        name="tmpfs_options",
        promised="nothing setuid and no devices in writable space",
        judge=seen.tmpfs_options,
    ),
    Promise(
        name="tmpfs_exec",
        promised="programs in writable space run where the settings say so, and nowhere else",
        judge=seen.tmpfs_exec,
    ),
    # how much it may use
    Promise(
        name="memory.limit",
        promised="the kernel ends what takes more memory than the limit, and the shim lives",
        judge=stopped(lambda r: r.memory, "SIGKILL", seen.mib),
        remedy="enable the memory controller: boot with cgroup_enable=memory",
    ),
    Promise(
        name="memory.oom_counter",
        promised="the kernel counts what it ended, so that the verdict can say so",
        judge=seen.oom_counter,
        remedy="use Linux 4.13 or newer",
    ),
    Promise(
        name="swap",
        promised="no swap on top of the memory limit",
        judge=seen.swap,
        remedy="boot with swapaccount=1, or turn swap off",
    ),
    Promise(
        name="swap_accounting",
        promised="the kernel accounts for swap",
        judge=seen.swap_accounting,
        remedy="boot with swapaccount=1, should this host get swap",
    ),
    Promise(
        name="pids",
        promised="processes and threads are limited",
        judge=seen.pids,
        remedy="use a kernel with the pids controller",
    ),
    Promise(
        name="open_files",
        promised="open files are limited",
        judge=stopped(lambda r: r.descriptors, "EMFILE", seen.counted("descriptors")),
    ),
    Promise(name="core_dumps", promised="no core dumps", judge=seen.rlimit("core", lambda _: 0)),
    Promise(
        name="file_size",
        promised="no file is larger than the disk limit",
        judge=seen.rlimit("fsize", lambda probed: probed.limits.disk_bytes),
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
    Promise(name="processes", promised="processes of the host are invisible", judge=seen.processes),
    Promise(name="hostname", promised="the host's name is unknown", judge=seen.hostname),
    Promise(
        name="cgroup_namespace",
        promised="the host's cgroups are invisible",
        judge=seen.cgroup_namespace,
    ),
    # how it is measured
    Promise(
        name="cgroup_files",
        promised="figures come from the cgroup's files on this host",
        judge=seen.cgroup_files,
        remedy="run on the engine's own host, not in a container",
    ),
    Promise(
        name="memory_peak",
        promised="the kernel itself keeps the peak of memory",
        judge=seen.memory_peak,
        remedy="use cgroup version 1, or Linux 5.19 or newer",
    ),
    Promise(
        name="freezer",
        promised="at the deadline everything is frozen through the cgroup, at once",
        judge=seen.freezer,
        remedy="run as root on the engine's own host to save some 15 ms each attempt",
    ),
)

CPUS: tuple[Promise[Cpus], ...] = (
    Promise(
        name="cpus",
        promised="no more CPU time than the limit, or no more cores where they are pinned",
        judge=seen.cpus,
        remedy="use a kernel with CFS bandwidth control; on a busy host, try again",
    ),
)
