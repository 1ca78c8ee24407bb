"""Finding, installing and starting an engine, on a machine that is made up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from runner.engine import install, locate
from runner.engine.install import Started, ensure_engine
from runner.engine.locate import EngineAddress
from runner.errors import EngineUnavailable, InfrastructureError


class Process:
    def __init__(self, code: int | None) -> None:
        self.code = code

    def poll(self) -> int | None:
        return self.code


class FakeHost:
    """An engine answers once one of `starters` was run."""

    def __init__(self, root: Path, *programs: str, uid: int = 0) -> None:
        self.root = root
        self.programs = set(programs)
        self.uid = uid
        self.up = False
        self.starters: tuple[str, ...] = (
            "systemctl start docker",
            "service docker start",
            "dockerd",
        )
        self.failing: dict[str, str] = {}
        self.dies = False
        self.ran: list[str] = []
        self.problem = EngineUnavailable("no engine answers")

    def is_root(self) -> bool:
        return self.uid == 0

    def has(self, program: str) -> bool:
        return program in self.programs

    def run(self, command: Sequence[str]) -> None:
        words = " ".join(word for word in command if not word.startswith("-") and "=" not in word)
        self.ran.append(words)
        for part, reason in self.failing.items():
            if part in words:
                raise InfrastructureError(reason)
        if "install" in words:
            self.programs.add("dockerd")
        self.up = self.up or words in self.starters

    def start(self, command: Sequence[str], log: Path) -> Started:
        self.ran.append(" ".join(command))
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("starting\nfailed: no devices cgroup\n")
        self.up = not self.dies
        return Process(1 if self.dies else None)

    def answers(self, address: EngineAddress) -> EngineUnavailable | None:
        return None if self.up else self.problem

    def sleep(self, seconds: float) -> None:
        pass

    def write(self, name: str, text: str = "") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


@pytest.fixture(autouse=True)
def _no_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a machine without an engine, whatever this one has."""
    nowhere = tmp_path / "nowhere"
    monkeypatch.setattr(locate, "DEFAULT_SOCKET", nowhere)
    monkeypatch.setattr(install, "DEFAULT_SOCKET", nowhere)
    monkeypatch.setattr(Path, "home", lambda: nowhere)
    monkeypatch.setattr(locate, "_from_context", lambda _environ: None)


def ensure(host: FakeHost, **environ: str) -> EngineAddress:
    said: list[str] = []
    environ |= {"XDG_RUNTIME_DIR": "/nonexistent"}
    return ensure_engine(said.append, environ=environ, host=host)


def test_an_engine_that_answers_is_left_alone(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, "apt-get")
    host.up = True
    assert ensure(host, DOCKER_HOST="tcp://127.0.0.1:2375").url == "tcp://127.0.0.1:2375"
    assert host.ran == []


@pytest.mark.parametrize("environ", [{"DOCKER_HOST": "tcp://127.0.0.1:1"}])
def test_nothing_is_installed_in_place_of_a_named_engine(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    host = FakeHost(tmp_path, "apt-get")
    with pytest.raises(EngineUnavailable):
        ensure(host, **environ)
    assert host.ran == []


def test_nothing_is_installed_in_place_of_a_context_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_environ: object) -> None:
        raise EngineUnavailable("docker context (current) cannot be read") from OSError()

    monkeypatch.setattr(locate, "_from_context", unreadable)
    host = FakeHost(tmp_path, "apt-get")
    with pytest.raises(EngineUnavailable, match="context"):
        ensure(host)
    assert host.ran == []


def test_a_fresh_debian_gets_an_engine(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, "apt-get")
    assert ensure(host).origin == "default socket"
    assert [line.split()[:2] for line in host.ran] == [
        ["apt-get", "update"],
        ["apt-get", "install"],
        ["dockerd"],
    ]


def test_one_broken_package_source_does_not_stop_the_installation(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, "apt-get")
    host.failing = {"apt-get update": "a third party's server is down"}
    ensure(host)
    host = FakeHost(tmp_path, "apt-get")
    host.failing = {"apt-get": "no network"}
    with pytest.raises(InfrastructureError, match="no network"):
        ensure(host)


def test_apparmor_comes_along_where_the_kernel_uses_it(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, "apt-get")
    host.write("sys/module/apparmor/parameters/enabled", "Y\n")
    ensure(host)
    assert host.ran[1].endswith(" apparmor")


@pytest.mark.parametrize(
    ("release", "remedy"),
    [
        ("ID=debian\n", "sudo agenttrace setup"),
        ('ID=pop\nID_LIKE="ubuntu debian"\n', "sudo apt-get install docker.io"),
        ("ID=fedora\n", "sudo dnf install moby-engine"),
        ("ID=arch\n", "sudo pacman -S docker"),
        ("ID=unheard-of\n", "DOCKER_HOST"),
        ("", "DOCKER_HOST"),
    ],
)
def test_who_may_not_install_is_told_how(tmp_path: Path, release: str, remedy: str) -> None:
    host = FakeHost(tmp_path, "apt-get", uid=1000)
    host.write("etc/os-release", release)
    with pytest.raises(EngineUnavailable) as caught:
        ensure(host)
    assert remedy in caught.value.remedy
    assert host.ran == []


def test_who_may_not_start_is_told_how(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="not running") as caught:
        ensure(FakeHost(tmp_path, "dockerd", uid=1000))
    assert "service docker start" in caught.value.remedy


def test_no_permission_on_the_socket_is_reported_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locate, "DEFAULT_SOCKET", tmp_path)
    host = FakeHost(tmp_path, "dockerd", uid=1000)
    host.problem = EngineUnavailable("no permission", remedy="join its group")
    with pytest.raises(EngineUnavailable, match="no permission"):
        ensure(host)
    assert host.ran == []


def test_systemd_starts_it_where_it_runs(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, "dockerd", "service")
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    host.write("etc/init.d/docker")
    ensure(host)
    assert host.ran == ["systemctl start docker"]


def test_else_the_init_script(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, "dockerd", "service")
    host.write("etc/init.d/docker")
    ensure(host)
    assert host.ran == ["service docker start"]


@pytest.mark.parametrize("failing", [{}, {"service": "ulimit: not permitted"}])
def test_an_init_script_that_does_nothing_is_done_without(
    tmp_path: Path, failing: dict[str, str]
) -> None:
    host = FakeHost(tmp_path, "dockerd", "service")
    host.starters = ()
    host.failing = failing
    host.write("etc/init.d/docker")
    ensure(host)
    assert host.ran == ["service docker start", "dockerd"]


def test_no_second_daemon_is_started_beside_one_that_is_slow(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, "dockerd", "service")
    host.starters = ()
    host.write("etc/init.d/docker")
    host.write("var/run/docker.pid", "4242")
    host.write("proc/4242/stat", "4242 (dockerd) S 1 0")
    with pytest.raises(EngineUnavailable, match="did not answer"):
        ensure(host)
    assert host.ran == ["service docker start"]


def test_a_daemon_that_ends_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, "dockerd")
    host.dies = True
    with pytest.raises(EngineUnavailable, match="no devices cgroup"):
        ensure(host)


@pytest.mark.parametrize(
    ("pid", "stat", "stale"),
    [
        ("77", None, True),
        ("77", "77 (dockerd) S 1", False),
        ("77", "77 (dockerd) Z 1", True),
        ("77", "77 (python3) S 1", True),
        ("77", "77 (evil) (dockerd) S 1", True),
        ("", None, True),
        ("not a number", None, True),
    ],
)
def test_only_stale_pid_files_are_removed(
    tmp_path: Path, pid: str, stat: str | None, stale: bool
) -> None:
    host = FakeHost(tmp_path, "dockerd")
    pid_file = host.write("var/run/docker.pid", pid)
    other = host.write("var/run/docker/containerd/containerd.pid", "88")
    host.write("proc/88/stat", "88 (containerd) S 1")
    if stat is not None:
        host.write("proc/77/stat", stat)
    ensure(host)
    assert pid_file.exists() is not stale
    assert other.exists()
