"""The container's cgroup on this host: found, read and frozen, of either version."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Literal

FREEZE_SECONDS = 2.0
V1_CONTROLLERS = ("memory", "cpuacct", "cpu", "pids", "freezer")


@dataclass(frozen=True)
class Cgroup:
    """Where each controller's files of one container are."""

    version: Literal[1, 2]
    directories: Mapping[str, Path]
    """By controller (version 1), or under the key "" (version 2)."""

    def read(self, name: str) -> str | None:
        """The text of a file such as `memory.peak` or `cpuacct.usage_user`; None: no such file."""
        controller = "" if self.version == 2 else name.partition(".")[0]
        directory = self.directories.get(controller)
        if directory is None:
            return None
        try:
            with open(f"{directory}/{name}") as file:  # noqa: PTH123 - read often, in a hurry
                return file.read()
        except OSError:
            return None

    def limit_socket_buffers(self, limit_bytes: int) -> bool:
        """Whether TCP buffers are limited: version 2 counts them as memory.

        Version 1 counts them apart, no engine limits them, and not every user may.
        """
        if self.version == 2:
            return True
        try:
            limit = self.directories["memory"] / "memory.kmem.tcp.limit_in_bytes"
            limit.write_text(str(limit_bytes))
        except OSError:
            return False
        return True

    @property
    def processes(self) -> list[int]:
        """Pids in it, as the host numbers them."""
        directory = self.directories.get("" if self.version == 2 else "freezer")
        if directory is None:
            return []
        with suppress(OSError):
            return [int(pid) for pid in (directory / "cgroup.procs").read_text().split()]
        return []

    @property
    def freezable(self) -> bool:
        """Whether this user may freeze it."""
        return bool((control := self._freezer) and os.access(control, os.W_OK))

    def freeze_at_once(self) -> bool:
        """As `freeze`, but it does not wait: a few sleeping processes are frozen by then."""
        self._set_frozen(frozen=True)
        return self._is_frozen()

    def freeze(self) -> bool:
        """Stops every process in it; False when the kernel did not say so in time."""
        self._set_frozen(frozen=True)
        deadline = time.monotonic() + FREEZE_SECONDS
        while not self._is_frozen():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return True

    def thaw(self) -> None:
        """Lets them go on; pending kills are delivered before any of their own code runs."""
        with suppress(OSError):
            self._set_frozen(frozen=False)

    def kill_all_but(self, spared: int) -> None:
        """SIGKILL to every process but `spared`; frozen ones die as they thaw.

        A pid is held by a descriptor and looked for again before it is signalled, so that one
        which ended and was given to another process of this host is not hit.
        """
        with ExitStack() as stack:
            held = {pid: fd for pid in self.processes if (fd := _held(pid, stack)) is not None}
            for pid in set(self.processes) & set(held) - {spared}:
                with suppress(ProcessLookupError, PermissionError):
                    signal.pidfd_send_signal(held[pid], signal.SIGKILL)

    @property
    def _freezer(self) -> Path | None:
        if self.version == 2:
            return self.directories[""] / "cgroup.freeze"
        directory = self.directories.get("freezer")
        return directory / "freezer.state" if directory else None

    def _set_frozen(self, *, frozen: bool) -> None:
        words = {1: ("THAWED", "FROZEN"), 2: ("0", "1")}[self.version]
        if control := self._freezer:
            control.write_text(words[frozen])

    def _is_frozen(self) -> bool:
        if self.version == 2:
            return "frozen 1" in (self.read("cgroup.events") or "frozen 1")
        return (self.read("freezer.state") or "FROZEN").strip() == "FROZEN"


def _held(pid: int, stack: ExitStack) -> int | None:
    """A descriptor of the process, closed with `stack`; None if there is no such process."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return None
    stack.callback(os.close, descriptor)
    return descriptor


def find_cgroup(pid: int, container_id: str, root: Path = Path("/")) -> Cgroup | None:
    """The cgroup of the container whose first process is `pid` on this host.

    None when that process is not visible here (a remote engine, another pid namespace) or is not
    the container's. `root` is where /proc and /sys are.
    """
    try:
        memberships = (root / f"proc/{pid}/cgroup").read_text()
        mounts = _cgroup_mounts(root)
    except OSError:
        return None
    # A dying process is already in the root of version 1's hierarchies while the unified one still
    # names its container: whatever is not named after the container is not the container's.
    paths = {c: p for c, p in _memberships(memberships) if container_id in p}
    directories = _directories(paths, mounts)
    if set(V1_CONTROLLERS) <= set(directories):
        return Cgroup(1, directories)
    unified = directories.get("")
    if unified and (unified / "memory.current").exists():
        return Cgroup(2, {"": unified})
    return None


def _memberships(text: str) -> list[tuple[str, str]]:
    """Controller and path of each hierarchy; the unified one is called ""."""
    found = []
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        found += [(controller, path) for controller in controllers.split(",")]
    return found


@dataclass(frozen=True)
class _Mount:
    """Where one controller's hierarchy is mounted, and from which cgroup of it on."""

    controller: str
    root: str
    place: Path


@lru_cache(maxsize=4)
def _cgroup_mounts(root: Path) -> tuple[_Mount, ...]:
    """Read once: a host mounts its hierarchies at its start, and /proc/self/mountinfo is long."""
    found = []
    for line in (root / "proc/self/mountinfo").read_text().splitlines():
        fields, _, tail = line.partition(" - ")
        kind, _, options = tail.split(" ", 2)
        mount_root, mount_point = map(_unescaped, fields.split(" ")[3:5])
        place = root / mount_point.lstrip("/")
        found += [_Mount(name, mount_root, place) for name in _controllers(kind, options)]
    return tuple(found)


def _directories(paths: Mapping[str, str], mounts: Iterable[_Mount]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for mount in mounts:
        if mount.controller in paths:
            relative = _below(paths[mount.controller], mount.root)
            if relative is not None and (mount.place / relative).is_dir():
                found.setdefault(mount.controller, mount.place / relative)
    return found


def _controllers(kind: str, options: str) -> list[str]:
    if kind == "cgroup2":
        return [""]
    if kind == "cgroup":
        return options.rsplit(" ", 1)[-1].split(",")
    return []


def _below(path: str, mount_root: str) -> PurePosixPath | None:
    """A cgroup's path as seen from a mount whose root is `mount_root`; None: not seen from it."""
    parts = PurePosixPath(path)
    if not parts.is_relative_to(mount_root) or ".." in parts.parts:
        return None
    return parts.relative_to(mount_root)


def _unescaped(field: str) -> str:
    """A path as /proc writes it, blanks as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)
