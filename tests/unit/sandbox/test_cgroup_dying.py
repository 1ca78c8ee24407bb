"""A dying container must never lead us to a cgroup that holds anybody else's processes."""

from __future__ import annotations

from pathlib import Path

from runner.sandbox.cgroup import find_cgroup

CONTAINER = "c0ffee" * 10
MOUNTS = "".join(
    f"{n} 1 0:{n} / /sys/fs/cgroup/{c} rw - cgroup cgroup rw,{c}\n"
    for n, c in enumerate(("memory", "cpuacct", "cpu", "pids", "freezer"), 30)
)
UNIFIED = "40 1 0:40 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"


def _host(root: Path, membership: str) -> Path:
    files = {"proc/7/cgroup": membership, "proc/self/mountinfo": MOUNTS + UNIFIED}
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    for controller in ("memory", "cpuacct", "cpu", "pids", "freezer"):
        (root / "sys/fs/cgroup" / controller / "docker" / CONTAINER).mkdir(parents=True)
    unified = root / "sys/fs/cgroup/unified"
    unified.mkdir(parents=True)
    (unified / "memory.current").write_text("0")
    return root


def test_a_zombie_is_in_the_root_of_version_1_and_named_in_the_unified_one(tmp_path: Path) -> None:
    # What Linux shows of a container's first process between its death and its burial.
    dying = "".join(f"{n}:{c}:/\n" for n, c in enumerate(("memory", "cpuacct", "cpu", "pids"), 2))
    membership = f"{dying}9:freezer:/\n0::/docker/{CONTAINER} (deleted)\n"
    assert find_cgroup(7, CONTAINER, _host(tmp_path, membership)) is None


def test_one_hierarchy_that_is_not_the_containers_spoils_all(tmp_path: Path) -> None:
    mine = f"/docker/{CONTAINER}"
    named = "".join(f"{n}:{c}:{mine}\n" for n, c in enumerate(("memory", "cpuacct", "cpu", "pids")))
    membership = f"{named}9:freezer:/\n"
    assert find_cgroup(7, CONTAINER, _host(tmp_path, membership)) is None


def test_a_living_one_is_found(tmp_path: Path) -> None:
    controllers = ("memory", "cpuacct", "cpu", "pids", "freezer")
    membership = "".join(f"{n}:{c}:/docker/{CONTAINER}\n" for n, c in enumerate(controllers))
    found = find_cgroup(7, CONTAINER, _host(tmp_path, membership))
    assert found is not None
    assert all(CONTAINER in str(directory) for directory in found.directories.values())
