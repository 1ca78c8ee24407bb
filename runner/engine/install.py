"""Finds a reachable engine, and where this host has none and we may, installs and starts one."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from runner.engine.client import EngineClient
from runner.engine.locate import DEFAULT_SOCKET, EngineAddress, locate_engine
from runner.errors import EngineUnavailable, InfrastructureError

Say = Callable[[str], None]

ENGINE_PACKAGES = ("docker.io", "iptables", "ca-certificates")
START_SECONDS = 60.0
INIT_SCRIPT_SECONDS = 20.0
"""An init script reports success before its daemon has; after this we look for ourselves."""
INSTALL_SECONDS = 600.0
POLL_SECONDS = 0.2
PID_FILES = {
    "var/run/docker.pid": "dockerd",
    "var/run/docker/containerd/containerd.pid": "containerd",
}
"""What dockerd refuses to start for, or waits on, when a killed one left it behind."""
LOG_FILE = "var/log/agenttrace-dockerd.log"
_DEFAULT_ADDRESS = EngineAddress(url=f"unix://{DEFAULT_SOCKET}", origin="default socket")

_INSTALL_COMMANDS = {
    "debian": "sudo apt-get install docker.io",
    "ubuntu": "sudo apt-get install docker.io",
    "fedora": "sudo dnf install moby-engine",
    "rhel": "sudo dnf install docker-ce (after adding Docker's repository)",
    "arch": "sudo pacman -S docker",
    "alpine": "sudo apk add docker",
    "suse": "sudo zypper install docker",
    "opensuse": "sudo zypper install docker",
}


class Started(Protocol):
    """A process that we started."""

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        ...


class Host(Protocol):
    """What installing an engine needs of the machine that we are on."""

    root: Path
    """Where its file system begins."""

    def is_root(self) -> bool:
        """Whether we may install and start things."""
        ...

    def has(self, program: str) -> bool:
        """Whether `program` is installed."""
        ...

    def run(self, command: Sequence[str]) -> None:
        """Runs it to its end; raises InfrastructureError with the end of its output."""
        ...

    def start(self, command: Sequence[str], log: Path) -> Started:
        """Starts it in a session of its own, its output in `log`; it outlives us."""
        ...

    def answers(self, address: EngineAddress) -> EngineUnavailable | None:
        """None when an engine answers there, else why not."""
        ...

    def sleep(self, seconds: float) -> None:
        """Waits."""
        ...


def ensure_engine(
    say: Say,
    configured: str = "",
    environ: Mapping[str, str] = os.environ,
    host: Host | None = None,
) -> EngineAddress:
    """The address of an engine that answers, installed and started by us if need be. Blocking.

    Installs only as root on an apt system, and only when nothing (a setting, DOCKER_HOST, a
    context) names an engine. Raises EngineUnavailable that says what to do in every other case.
    """
    host = host or LocalHost()
    address = _named_or_found(configured, environ)
    problem = host.answers(address) if address else None
    if address and problem is None:
        return address
    if problem and (address != _DEFAULT_ADDRESS or not host.is_root()):
        raise problem
    if not host.has("dockerd"):
        _install(host, say)
    _start(host, say)
    return _DEFAULT_ADDRESS


def _named_or_found(configured: str, environ: Mapping[str, str]) -> EngineAddress | None:
    """None when nothing names an engine and none has left a socket."""
    try:
        return locate_engine(configured, environ)
    except EngineUnavailable as error:
        named = configured or environ.get("DOCKER_HOST") or environ.get("DOCKER_CONTEXT")
        if named or error.__cause__ is not None or DEFAULT_SOCKET.exists():
            raise
        return None


# -- installing ---------------------------------------------------------------------------------


def can_install() -> bool:
    """Whether we are root on a system with apt."""
    return _can_install(LocalHost())


def apt_install(packages: Sequence[str], say: Say) -> None:
    """Installs Debian packages; raises InfrastructureError with the end of apt's output."""
    _apt_install(LocalHost(), packages, say)


def _can_install(host: Host) -> bool:
    return host.is_root() and host.has("apt-get")


def _install(host: Host, say: Say) -> None:
    if not _can_install(host):
        raise EngineUnavailable(
            "no Docker engine is installed on this host", remedy=_how_to_install(host)
        )
    say("no Docker engine is installed: installing docker.io by apt")
    packages = list(ENGINE_PACKAGES)
    apparmor = host.root / "sys/module/apparmor/parameters/enabled"
    if apparmor.exists() and apparmor.read_text("ascii").strip() == "Y":
        packages.append("apparmor")  # a kernel that has it on, and an engine that cannot load rules
    _apt_install(host, packages, say)


def _apt_install(host: Host, packages: Sequence[str], say: Say) -> None:
    say(f"installing {', '.join(packages)}")
    apt = ("apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120")
    update_failure: InfrastructureError | None = None
    try:
        host.run([*apt, "update"])
    except InfrastructureError as error:  # one source of several: the rest may well suffice
        update_failure = error
    try:
        host.run([*apt, "install", "--no-install-recommends", *packages])
    except InfrastructureError as error:
        raise update_failure or error from error


def _how_to_install(host: Host) -> str:
    if platform.system() != "Linux":
        return "install Docker Desktop or Colima and start it, or set DOCKER_HOST"
    release = host.root / "etc/os-release"
    lines = release.read_text("utf-8").splitlines() if release.exists() else []
    facts = dict(line.split("=", 1) for line in lines if "=" in line)
    names = shlex.split(facts.get("ID", "")) + shlex.split(facts.get("ID_LIKE", ""))
    words = [word for name in names for word in name.split()]
    command = next((_INSTALL_COMMANDS[word] for word in words if word in _INSTALL_COMMANDS), "")
    if command.startswith("sudo apt-get"):
        return f"`sudo agenttrace setup` does it, or `{command}`; DOCKER_HOST selects another"
    return f"install it{f': `{command}`' if command else ''}, or set DOCKER_HOST"


# -- starting -----------------------------------------------------------------------------------


def _start(host: Host, say: Say) -> None:
    if not host.is_root():
        raise EngineUnavailable(
            "the Docker engine is installed but not running",
            remedy="start it: `sudo systemctl start docker` or `sudo service docker start`",
        )
    _remove_stale_pid_files(host, say)
    if (host.root / "run/systemd/system").exists():
        say("starting the engine by systemd")
        host.run(["systemctl", "start", "docker"])
        return _wait(host, None, START_SECONDS)
    if _started_by_init_script(host, say):
        return None
    return _start_by_hand(host, say)


def _started_by_init_script(host: Host, say: Say) -> bool:
    """Whether the init script, if there is one, has brought up an engine that answers."""
    if not (host.root / "etc/init.d/docker").exists() or not host.has("service"):
        return False
    say("starting the engine by its init script")
    try:
        host.run(["service", "docker", "start"])
        _wait(host, None, INIT_SCRIPT_SECONDS)
    except InfrastructureError as error:
        if _runs(host, "var/run/docker.pid", "dockerd"):
            raise
        say(f"the init script did not do it ({error.message})")
        return False
    return True


def _start_by_hand(host: Host, say: Say) -> None:
    log = host.root / LOG_FILE
    say(f"starting dockerd; its log is {log}")
    _wait(host, (host.start(["dockerd"], log), log), START_SECONDS)


def _wait(host: Host, started: tuple[Started, Path] | None, seconds: float) -> None:
    """Until the engine answers; raises EngineUnavailable when it ends first or takes too long."""
    for _ in range(int(seconds / POLL_SECONDS)):
        if host.answers(_DEFAULT_ADDRESS) is None:
            return
        if started and started[0].poll() is not None:
            raise EngineUnavailable(
                f"dockerd ended at once: {_tail(started[1])}", remedy=f"see {started[1]}"
            )
        host.sleep(POLL_SECONDS)
    raise EngineUnavailable(
        f"the engine did not answer within {seconds:g} s"
        + (f": {_tail(started[1])}" if started else ""),
        remedy=f"see {started[1] if started else '`journalctl -u docker` or /var/log/docker.log'}",
    )


def _tail(log: Path) -> str:
    lines = log.read_text("utf-8", "backslashreplace").splitlines() if log.exists() else []
    return " | ".join(lines[-3:])[-600:] or "it wrote nothing"


def _remove_stale_pid_files(host: Host, say: Say) -> None:
    for name, program in PID_FILES.items():
        path = host.root / name
        if path.exists() and not _runs(host, name, program):
            say(f"removing {path}, left by a {program} that is gone")
            path.unlink(missing_ok=True)


def _runs(host: Host, pid_file: str, program: str) -> bool:
    """Whether the process named in `pid_file` is alive and is `program`."""
    try:
        pid = int((host.root / pid_file).read_text("ascii"))
        status = (host.root / f"proc/{pid}/stat").read_text("utf-8", "replace")
    except (OSError, ValueError):
        return False
    name, _, rest = status.partition("(")[2].rpartition(")")
    return name == program and rest.split()[0] not in ("Z", "X")


class LocalHost:
    """This machine."""

    root = Path("/")

    def is_root(self) -> bool:
        """Whether our effective uid is 0."""
        return os.geteuid() == 0

    def has(self, program: str) -> bool:
        """Looks in PATH and where daemons are, which not every PATH holds."""
        path = os.environ.get("PATH", os.defpath)
        return shutil.which(program, path=f"{path}:/usr/sbin:/sbin:/usr/local/sbin") is not None

    def run(self, command: Sequence[str]) -> None:
        """As promised by Host, within `INSTALL_SECONDS`."""
        try:
            subprocess.run(
                command,
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_environment(),
                timeout=INSTALL_SECONDS,
            )
        except subprocess.CalledProcessError as error:
            raise _failure(command, _last_lines(error.output)) from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _failure(command, str(error)) from error

    def start(self, command: Sequence[str], log: Path) -> Started:
        """As promised by Host."""
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(),
                cwd="/",
                start_new_session=True,
            )

    def answers(self, address: EngineAddress) -> EngineUnavailable | None:
        """Asks it for its description."""
        with EngineClient(address) as client:
            try:
                _ = client.info
            except EngineUnavailable as error:
                return error
            except InfrastructureError as error:
                return EngineUnavailable(error.message, remedy=error.remedy)
        return None

    def sleep(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)


def _environment() -> dict[str, str]:
    path = os.environ.get("PATH", os.defpath)
    return os.environ | {
        "DEBIAN_FRONTEND": "noninteractive",
        "PATH": f"{path}:/usr/sbin:/sbin:/usr/local/sbin",
    }


def _failure(command: Sequence[str], reason: str) -> InfrastructureError:
    return InfrastructureError(
        f"`{shlex.join(command)}` failed: {reason}", remedy="put that right, then repeat the set-up"
    )


def _last_lines(output: bytes) -> str:
    return " | ".join(output.decode(errors="backslashreplace").strip().splitlines()[-4:])
