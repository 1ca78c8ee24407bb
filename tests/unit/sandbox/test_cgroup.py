"""A container's cgroup, found on hosts of every kind, and frozen."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.sandbox import cgroup as cgroup_module
from runner.sandbox.cgroup import V1_CONTROLLERS, Cgroup, find_cgroup

RECORDINGS = Path(__file__).parent / "recordings"
ID = "f97ed5bca0a5a0b85bfd52c4144b96174e825c92a138bc0458f0e196f2c7c1b4"
PID = 4242
V1_OPTIONS = "cgroup cgroup rw,"


class Root:
    """A host's /proc and /sys, as far as they tell of cgroups."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / f"proc/{PID}").mkdir(parents=True)
        (path / "proc/self").mkdir()
        self._mounts: list[str] = ["23 1 8:1 / / rw - ext4 /dev/vda rw"]
        self._memberships: list[str] = []

    def mount(self, point: str, kind: str, options: str, root: str = "/") -> Root:
        self._mounts.append(f"31 23 0:28 {root} {point} rw,relatime - {kind} {kind} rw,{options}")
        return self

    def member(self, line: str) -> Root:
        self._memberships.append(line)
        return self

    def cgroup(self, path: str, *files: str) -> Root:
        (self.path / path).mkdir(parents=True)
        for name in files:
            (self.path / path / name).write_text("")
        return self

    def find(self, container_id: str = ID) -> Cgroup | None:
        (self.path / "proc/self/mountinfo").write_text("\n".join(self._mounts) + "\n")
        (self.path / f"proc/{PID}/cgroup").write_text("\n".join(self._memberships) + "\n")
        return find_cgroup(PID, container_id, self.path)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


def v2(root: Root, path: str, mount_root: str = "/", seen: str | None = None) -> Cgroup | None:
    root.mount("/sys/fs/cgroup", "cgroup2", "nsdelegate", mount_root).member(f"0::{path}")
    return root.cgroup(f"sys/fs/cgroup{path if seen is None else seen}", "memory.current").find()


def test_v1_as_recorded_on_a_hybrid_host(root: Root) -> None:
    container = "018b11fd585a52a60c7097da2ee1e1485bf10890c40b42ac94fe08fececc9a60"
    (root.path / "proc/self/mountinfo").write_text((RECORDINGS / "v1/mountinfo").read_text())
    (root.path / f"proc/{PID}/cgroup").write_text((RECORDINGS / "v1/proc_cgroup").read_text())
    for controller in (*V1_CONTROLLERS, "unified"):
        root.cgroup(f"sys/fs/cgroup/{controller}/docker/{container}")
    found = find_cgroup(PID, container, root.path)
    assert found
    assert found.version == 1
    for controller in V1_CONTROLLERS:
        expected = root.path / f"sys/fs/cgroup/{controller}/docker/{container}"
        assert found.directories[controller] == expected


def test_v1_with_joined_controllers(root: Root) -> None:
    for joined in ("cpu,cpuacct", "memory", "pids", "freezer"):
        root.mount(f"/sys/fs/cgroup/{joined}", "cgroup", joined)
        root.member(f"3:{joined}:/docker/{ID}").cgroup(f"sys/fs/cgroup/{joined}/docker/{ID}")
    found = root.find()
    assert found
    assert found.directories["cpu"] == found.directories["cpuacct"]
    assert found.directories["cpu"].parts[-3] == "cpu,cpuacct"


def test_v1_without_a_controller_is_not_half_read(root: Root) -> None:
    for controller in set(V1_CONTROLLERS) - {"pids"}:
        root.mount(f"/sys/fs/cgroup/{controller}", "cgroup", controller)
        root.member(f"3:{controller}:/docker/{ID}")
        root.cgroup(f"sys/fs/cgroup/{controller}/docker/{ID}")
    assert root.find() is None


@pytest.mark.parametrize(
    "path",
    [
        f"/docker/{ID}",
        f"/system.slice/docker-{ID}.scope",
        f"/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope",
    ],
    ids=["cgroupfs", "systemd", "rootless with systemd"],
)
def test_v2(root: Root, path: str) -> None:
    found = v2(root, path)
    assert found
    assert found == Cgroup(2, {"": root.path / f"sys/fs/cgroup{path}"})


def test_v2_seen_from_a_nested_mount(root: Root) -> None:
    found = v2(root, f"/docker/outer/docker/{ID}", "/docker/outer", f"/docker/{ID}")
    assert found
    assert found.directories[""] == root.path / f"sys/fs/cgroup/docker/{ID}"


@pytest.mark.parametrize("mount_root", ["/docker/out", "/elsewhere", f"/docker/outer/docker/{ID}x"])
def test_v2_beside_a_mount_is_not_found_below_it(root: Root, mount_root: str) -> None:
    assert v2(root, f"/docker/outer/docker/{ID}", mount_root) is None


def test_v2_outside_of_our_own_cgroup_namespace(root: Root) -> None:
    assert v2(root, f"/../docker-{ID}.scope", seen="/x") is None


def test_of_two_mounts_the_one_that_shows_it_counts(root: Root) -> None:
    root.mount("/container/sys/fs/cgroup", "cgroup2", "", "/docker/other")
    root.mount("/gone/sys/fs/cgroup", "cgroup2", "")
    found = v2(root, f"/docker/{ID}")
    assert found
    assert found.directories[""] == root.path / f"sys/fs/cgroup/docker/{ID}"


def test_a_mount_point_with_blanks(root: Root) -> None:
    root.mount(r"/my\040cgroups", "cgroup2", "").member(f"0::/docker/{ID}")
    found = root.cgroup(f"my cgroups/docker/{ID}", "memory.current").find()
    assert found


def test_v2_without_the_memory_controller(root: Root) -> None:
    root.mount("/sys/fs/cgroup", "cgroup2", "").member(f"0::/docker/{ID}")
    assert root.cgroup(f"sys/fs/cgroup/docker/{ID}", "cgroup.procs").find() is None


@pytest.mark.parametrize("path", ["/", "/user.slice/session-1.scope", f"/docker/{'0' * 64}"])
def test_the_process_of_another_container_or_of_none(root: Root, path: str) -> None:
    """Docker in docker, a remote engine's pid, rootless without systemd."""
    assert v2(root, path) is None


def test_a_process_that_is_not_there(tmp_path: Path) -> None:
    assert find_cgroup(PID, ID, tmp_path) is None


# -- reading and freezing -----------------------------------------------------------------------


def cgroup_in(path: Path, version: int) -> Cgroup:
    if version == 2:
        return Cgroup(2, {"": path})
    return Cgroup(1, dict.fromkeys(V1_CONTROLLERS, path))


CONTROL = {1: ("freezer.state", "FROZEN", "THAWED"), 2: ("cgroup.freeze", "1", "0")}


@pytest.mark.parametrize("version", [1, 2])
def test_freezing_and_thawing(tmp_path: Path, version: int) -> None:
    name, frozen, thawed = CONTROL[version]
    (tmp_path / name).write_text(thawed)
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    cgroup = cgroup_in(tmp_path, version)
    assert cgroup.freezable
    assert cgroup.freeze()
    assert (tmp_path / name).read_text() == frozen
    cgroup.thaw()
    assert (tmp_path / name).read_text() == thawed


def test_freezing_that_does_not_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup_module, "FREEZE_SECONDS", 0.01)
    (tmp_path / "cgroup.freeze").write_text("0")
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    assert not Cgroup(2, {"": tmp_path}).freeze()


@pytest.mark.parametrize("version", [1, 2])
def test_a_cgroup_that_has_gone(tmp_path: Path, version: int) -> None:
    cgroup = cgroup_in(tmp_path / "gone", version)
    assert cgroup.read("memory.stat") is None
    assert cgroup.processes == []
    assert not cgroup.freezable
    with pytest.raises(OSError, match="No such file"):
        cgroup.freeze()
    cgroup.thaw()
    cgroup.kill_all_but(1)


def test_a_cgroup_without_that_controller() -> None:
    cgroup = Cgroup(1, {})
    assert cgroup.read("memory.stat") is None
    assert cgroup.processes == []
    assert not cgroup.freezable


@pytest.mark.parametrize("version", [1, 2])
def test_all_but_one_are_killed(tmp_path: Path, version: int) -> None:
    processes = [subprocess.Popen(["sleep", "100"]) for _ in range(3)]
    try:
        pids = [process.pid for process in processes]
        (tmp_path / "cgroup.procs").write_text("\n".join(map(str, pids)) + "\n0\n")
        cgroup_in(tmp_path, version).kill_all_but(pids[0])
        assert [process.wait(10) for process in processes[1:]] == [-9, -9]
        assert processes[0].poll() is None
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture
def real_v2() -> Iterator[Cgroup]:
    """A cgroup of this host's own version 2 hierarchy, where it has one and we may."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in mounts if " - cgroup2 " in line]
    if not points or os.geteuid() != 0 or not os.access(points[0], os.W_OK):
        pytest.skip("no version 2 hierarchy that we may write to")
    path = Path(points[0]) / f"agenttrace-test-{uuid.uuid4().hex[:8]}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made: {error}")
    yield Cgroup(2, {"": path})
    path.rmdir()


def test_a_real_process_in_a_real_v2_cgroup(real_v2: Cgroup) -> None:
    spinning = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(2)]
    procs = real_v2.directories[""] / "cgroup.procs"
    try:
        for process in spinning:
            procs.write_text(str(process.pid))
        assert real_v2.freezable
        assert real_v2.freeze()
        before = real_v2.read("cpu.stat")
        assert sorted(real_v2.processes) == sorted(process.pid for process in spinning)
        assert real_v2.read("cpu.stat") == before
        real_v2.kill_all_but(spinning[0].pid)
        assert spinning[1].wait(10) == -9
        real_v2.thaw()
        assert spinning[0].poll() is None
    finally:
        real_v2.thaw()
        for process in spinning:
            process.kill()
            process.wait()
