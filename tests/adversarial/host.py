"""The host before and after an attempt: what a container may not leave there."""

from __future__ import annotations

import ctypes
import gc
import re
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from runner.domain import MIB
from runner.engine import EngineClient

DISK_TOLERANCE_BYTES = 256 * MIB
"""Other work on the host (builds, logs) uses disk too; the agents try to use gigabytes."""
MEMORY_TOLERANCE_BYTES = 400 * MIB
PIDS_TOLERANCE = 100
RSS_TOLERANCE_BYTES = 30 * MIB
SETTLE_SECONDS = 5.0


@dataclass(frozen=True)
class Host:
    """Figures of this host and of this process."""

    disk_free_bytes: int
    memory_available_bytes: int
    pids: int
    runner_rss_bytes: int
    at_unix: float

    @classmethod
    def now(cls) -> Host:
        """As they are."""
        gc.collect()
        docker_root = "/var/lib/docker" if Path("/var/lib/docker").is_dir() else "/"
        return cls(
            disk_free_bytes=psutil.disk_usage(docker_root).free,
            memory_available_bytes=psutil.virtual_memory().available + _kept_free_bytes(),
            pids=len(psutil.pids()),
            runner_rss_bytes=psutil.Process().memory_info().rss,
            at_unix=time.time(),
        )

    def lost_since(self, before: Host, rss_bytes: int = RSS_TOLERANCE_BYTES) -> list[str]:
        """One line for each figure that is not back where it was."""
        lost = {
            "bytes of disk": (
                before.disk_free_bytes - self.disk_free_bytes,
                DISK_TOLERANCE_BYTES,
            ),
            "bytes of memory": (
                before.memory_available_bytes - self.memory_available_bytes,
                MEMORY_TOLERANCE_BYTES,
            ),
            "processes": (self.pids - before.pids, PIDS_TOLERANCE),
            "bytes of the runner's RSS": (
                self.runner_rss_bytes - before.runner_rss_bytes,
                rss_bytes,
            ),
        }
        return [f"{n} {what} more" for what, (n, allowed) in lost.items() if n > allowed]


def _kept_free_bytes() -> int:
    """Free pages that each CPU keeps at hand, which no figure of /proc/meminfo counts.

    Since Linux 6.7 such a list grows to hundreds of MiB under a flood of pipe or socket data, and
    shrinks again only as the kernel pleases (mm/page_alloc.c, `decay_pcp_high`).
    """
    lists = re.findall(r"^ {14}count: +(\d+)$", Path("/proc/zoneinfo").read_text(), re.MULTILINE)
    return sum(map(int, lists)) * resource.getpagesize()


def tidy_host() -> Host:
    """The host now, without what the allocator keeps of the memory that was given back to it."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return Host.now()


def settled(leftovers: Callable[[], list[str]]) -> list[str]:
    """What is still left after a while: the engine and the kernel tidy up in the background."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (left := leftovers()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def containers(client: EngineClient, prefix: str) -> list[str]:
    """Containers, running or not, whose name starts with `prefix`."""
    found = client.call_blocking(
        "list containers", lambda api: api.containers(all=True, filters={"name": f"^/{prefix}"})
    )
    return [f"container {one['Names']}" for one in found]


def processes(container_id: str) -> list[str]:
    """Processes of this host in a cgroup of the container; the kernel knows, whoever forked."""
    left = []
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            if container_id in path.read_text():
                left.append(f"process {path.parent.name}")
        except OSError:
            continue
    return left


def volumes(client: EngineClient, container_id: str, since_unix: float, ours: str) -> list[str]:
    """Volumes that the engine mounted into the container and that still exist, but for `ours`."""

    def ask(api: object) -> list[str]:
        events = api.events(  # type: ignore[attr-defined]
            since=int(since_unix) - 1,
            until=int(time.time()) + 1,
            filters={"type": "volume"},
            decode=True,
        )
        used = {
            event["Actor"]["ID"]
            for event in events
            if event["Actor"]["Attributes"].get("container") == container_id
        }
        existing = {v["Name"] for v in api.volumes()["Volumes"] or []}  # type: ignore[attr-defined]
        return [f"volume {name}" for name in sorted((used & existing) - {ours})]

    return client.call_blocking("list volumes", ask)
