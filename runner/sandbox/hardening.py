"""Every setting of a container, as asked for and as read back from the live one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from docker.types import HostConfig, LogConfig, Mount, Ulimit

from runner.domain import Image, Limits
from runner.domain.mounts import (
    OUTPUT_DIRECTORY,
    SCRATCH_DIRECTORY,
    SHIM_DIRECTORY,
    writable_mounts,
)
from runner.domain.shim import SHIM_ARGV, shim_environment
from runner.errors import LimitNotApplied

OLDEST_API = "1.41"
CPU_PERIOD_MICROSECONDS = 100_000
SHIM_CAPABILITIES = ("KILL", "SETGID", "SETUID")
LABEL = "org.agenttrace.container"
"""Says that the container is ours; for people, never for deciding what to remove."""

UNLIMITED_SWAP = -1

Applied: TypeAlias = dict[str, str | int | float | bool]


@dataclass(frozen=True, kw_only=True)
class SandboxPolicy:
    """What is the same for every container of a run."""

    shim_volume: str
    seccomp: str
    """The profile itself, as JSON."""
    runtime: str = ""
    """Empty: the engine's default."""
    apparmor: str = ""
    """Profile name; empty: the engine's default."""
    first_agent_uid: int = 10_001
    """Attempts that run at the same time have this one and those after it."""
    agent_gid: int = 10_001
    cpu_mode: Literal["quota", "cpuset"] = "quota"
    tmpfs_exec: bool = True
    extra_labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Share:
    """What of the host is one container's alone."""

    uid: int = 10_001
    """Of its agent."""
    cpuset: str = ""
    """Its cores, `0,1`; empty where none are pinned."""


def create_arguments(
    image: Image, limits: Limits, policy: SandboxPolicy, name: str, share: Share
) -> dict[str, Any]:
    """Keyword arguments for docker-py's `create_container`."""
    argv = list(SHIM_ARGV)
    return {
        "name": name,
        "image": image.image_id,
        "entrypoint": argv[:1],
        "command": argv[1:],
        "user": "0:0",
        "working_dir": "/",
        "hostname": "agent",
        "stdin_open": True,
        "tty": False,
        "detach": False,
        "network_disabled": True,
        "stop_signal": "SIGKILL",
        "healthcheck": {"test": ["NONE"]},
        "environment": shim_environment(image.environment),
        "labels": {LABEL: name} | policy.extra_labels,
        "host_config": host_config(image, limits, policy, share),
    }


def host_config(image: Image, limits: Limits, policy: SandboxPolicy, share: Share) -> HostConfig:
    """The hardening itself (sandbox.md, "Container settings")."""
    shim = Mount(SHIM_DIRECTORY, policy.shim_volume, type="volume", read_only=True, no_copy=True)
    return HostConfig(
        version=OLDEST_API,
        cap_drop=["ALL"],
        cap_add=list(SHIM_CAPABILITIES),
        security_opt=_security_options(policy),
        read_only=True,
        privileged=False,
        mem_limit=limits.memory_bytes,
        memswap_limit=limits.memory_bytes,
        pids_limit=limits.pids,
        shm_size=limits.shm_bytes,
        tmpfs=_tmpfs(image, limits, policy, share),
        mounts=[shim],
        ipc_mode="private",
        cgroupns="private",
        ulimits=_ulimits(limits),
        log_config=LogConfig(type="none"),
        restart_policy={"Name": "no"},
        auto_remove=False,
        runtime=policy.runtime or None,
        **_cpu(limits, policy, share),
    )


def _cpu(limits: Limits, policy: SandboxPolicy, share: Share) -> dict[str, Any]:
    if policy.cpu_mode == "cpuset" and share.cpuset:
        return {"cpuset_cpus": share.cpuset}
    return {
        "cpu_period": CPU_PERIOD_MICROSECONDS,
        "cpu_quota": round(limits.cpus * CPU_PERIOD_MICROSECONDS),
    }


def _security_options(policy: SandboxPolicy) -> list[str]:
    options = ["no-new-privileges:true", f"seccomp={policy.seccomp}"]
    return options + ([f"apparmor={policy.apparmor}"] if policy.apparmor else [])


def _ulimits(limits: Limits) -> list[Ulimit]:
    hard = {"nofile": limits.open_files, "core": 0, "fsize": limits.disk_bytes}
    return [Ulimit(name=name, soft=value, hard=value) for name, value in hard.items()]


def _tmpfs(image: Image, limits: Limits, policy: SandboxPolicy, share: Share) -> dict[str, str]:
    owner = [f"uid={share.uid}", f"gid={policy.agent_gid}"]
    return {
        path: ",".join(_tmpfs_options(path, size, limits, policy, owner))
        for path, size in writable_mounts(limits, image.volumes).items()
    }


def _tmpfs_options(
    path: str, size: int, limits: Limits, policy: SandboxPolicy, owner: list[str]
) -> list[str]:
    options = [f"size={size}", f"nr_inodes={limits.disk_inodes}", "nosuid", "nodev"]
    options.append("exec" if policy.tmpfs_exec and path != OUTPUT_DIRECTORY else "noexec")
    if path == SCRATCH_DIRECTORY:
        return [*options, "mode=1777"]
    return [*options, "mode=0700", *owner]


def read_back(
    inspected: dict[str, Any], wanted: HostConfig, *, swap_possible: bool = True
) -> Applied:
    """What the live container has, by name; raises LimitNotApplied where it is not what we asked.

    `inspected` is the engine's answer to an inspection of the container. An engine that cannot
    limit swap (no accounting in its kernel) says that it is unlimited; without `swap_possible`
    its host has none, and the memory limit holds nevertheless.
    """
    host = inspected.get("HostConfig") or {}
    applied = _as_facts(host)
    asked = _as_facts(dict(wanted))
    if applied["memory_and_swap_bytes"] == UNLIMITED_SWAP and not swap_possible:
        asked["memory_and_swap_bytes"] = UNLIMITED_SWAP
    if differing := sorted(name for name in asked if applied.get(name) != asked[name]):
        raise LimitNotApplied(
            f"the engine did not apply: {', '.join(differing)}",
            remedy="run `agenttrace doctor` to see what this host can enforce",
        )
    if not (inspected.get("Config") or {}).get("NetworkDisabled"):
        raise LimitNotApplied(
            "the engine did not disable the network", remedy="run `agenttrace doctor`"
        )
    return applied | {"network": "disabled"}


def read_back_process(inspected: dict[str, Any], arguments: dict[str, Any]) -> Applied:
    """The same of the container's first process, where an image's own word could have won."""
    config = inspected.get("Config") or {}
    shim = [*arguments["entrypoint"], *arguments["command"]]
    holds = {
        "image": inspected.get("Image") == arguments["image"],
        "command": [inspected.get("Path"), *(inspected.get("Args") or ())] == shim,
        "environment": _is_set(config.get("Env") or (), arguments["environment"]),
        "user": config.get("User") == arguments["user"],
        "working directory": config.get("WorkingDir") == arguments["working_dir"],
        "stop signal": config.get("StopSignal") == arguments["stop_signal"],
        "health check": (config.get("Healthcheck") or {}).get("Test") == ["NONE"],
        "terminal": not config.get("Tty"),
    }
    if differing := sorted(name for name, is_ours in holds.items() if not is_ours):
        raise LimitNotApplied(
            f"the container has not our {', '.join(differing)}",
            remedy="run `agenttrace doctor` to see what this host can enforce",
        )
    return {"user": str(config["User"]), "image_settings_overridden": True}


def _is_set(found: Iterable[str], asked: Iterable[str]) -> bool:
    """Whether each `NAME=value` asked for is there, and no variable asked for by its bare name."""
    pairs = [pair for pair in found if "=" in pair]
    names = {pair.partition("=")[0] for pair in pairs}
    return all(one in pairs if "=" in one else one not in names for one in asked)


def has_swap(swaps: Path = Path("/proc/swaps")) -> bool:
    """Whether this host has any swap space; its header is all that the file has if not."""
    try:
        return len(swaps.read_text().splitlines()) > 1
    except OSError:
        return True


def _as_facts(host: dict[str, Any]) -> Applied:
    """The settings that matter, in words; of a request or of a live container alike."""
    seccomp, others = _split_security(host.get("SecurityOpt") or [])
    quota, period = host.get("CpuQuota") or 0, host.get("CpuPeriod") or CPU_PERIOD_MICROSECONDS
    tmpfs = host.get("Tmpfs") or {}
    return {
        "memory_bytes": host.get("Memory") or 0,
        "memory_and_swap_bytes": host.get("MemorySwap") or 0,
        "pids": host.get("PidsLimit") or 0,
        "cpus": quota / period,
        "cpuset": host.get("CpusetCpus") or "",
        "shm_bytes": host.get("ShmSize") or 0,
        "read_only_root": bool(host.get("ReadonlyRootfs")),
        "privileged": bool(host.get("Privileged")),
        "capabilities_dropped": ",".join(sorted(host.get("CapDrop") or [])),
        "capabilities_added": ",".join(
            sorted(c.removeprefix("CAP_") for c in host.get("CapAdd") or [])
        ),
        "security_options": ",".join(others),
        "seccomp_sha256": seccomp,
        "ipc": host.get("IpcMode") or "",
        "cgroup_namespace": host.get("CgroupnsMode") or "",
        "tmpfs": " ".join(f"{path}:{tmpfs[path]}" for path in sorted(tmpfs)),
        "ulimits": ",".join(
            sorted(f"{u['Name']}={u['Soft']}:{u['Hard']}" for u in host.get("Ulimits") or [])
        ),
        "log_driver": (host.get("LogConfig") or {}).get("Type") or "",
        "auto_remove": bool(host.get("AutoRemove")),
        "pid_namespace": host.get("PidMode") or "private",
        "restart": (host.get("RestartPolicy") or {}).get("Name") or "no",
    }


def _split_security(options: list[str]) -> tuple[str, list[str]]:
    """Digest of the seccomp profile, and the other options."""
    profile = next((o.partition("=")[2] for o in options if o.startswith("seccomp=")), "")
    others = sorted(_spelt(o) for o in options if not o.startswith("seccomp="))
    return digest_of_json(profile), others


def _spelt(option: str) -> str:
    """The engine takes three spellings of one option and gives back the one that it was given."""
    same = ("no-new-privileges", "no-new-privileges=true")
    return "no-new-privileges:true" if option in same else option


@lru_cache(maxsize=8)
def digest_of_json(text: str) -> str:
    """Of the value, whatever its white space."""
    with suppress(ValueError):
        text = json.dumps(json.loads(text), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
