"""Wheels for a base image, resolved on the host by pip without running any package's code."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runner.domain.text import one_line
from runner.engine import EngineClient
from runner.errors import BuildFailed, EngineFailed
from runner.images.limits import MIB, BuildLimits
from runner.images.requirements import PinnedLine, render_requirements

PROBE = (
    "import json,platform,sys;"
    "print(json.dumps([*sys.version_info[:2],platform.machine(),*platform.libc_ver()]))"
)
PROBE_SECONDS = 30
OLDEST_GLIBC_MINOR = 5
INSTALLER = "pip"
WATCH_SECONDS = 0.5
_NO_WHEEL = re.compile(rb"No matching distribution found for ([^\r\n]+)")
_LAST_ERROR = re.compile(rb"ERROR: ([^\r\n]+)")


@dataclass(frozen=True, kw_only=True)
class PythonPlatform:
    """What wheels must fit: the base image's CPython and C library."""

    version: tuple[int, int]
    machine: str
    glibc_minor: int
    """Of glibc 2.x."""

    @property
    def shown(self) -> str:
        """For a person."""
        major, minor = self.version
        return f"python {major}.{minor} on linux {self.machine} (glibc 2.{self.glibc_minor})"

    @property
    def tags(self) -> tuple[str, ...]:
        """Platform tags of wheels that run there, the newest first."""
        minors = range(self.glibc_minor, OLDEST_GLIBC_MINOR - 1, -1)
        modern = [f"manylinux_2_{minor}_{self.machine}" for minor in minors]
        legacy = [f"manylinux{year}_{self.machine}" for year in ("2014", "2010", "1")]
        return (*modern, *legacy, f"linux_{self.machine}")


async def probe_python(engine: EngineClient, base_image: str) -> PythonPlatform:
    """Asks the (trusted) base image's own interpreter; raises EngineFailed."""
    container = await engine.call(
        "create a probe of the base image",
        lambda client: client.create_container(
            base_image,
            ["python3", "-I", "-S", "-c", PROBE],
            entrypoint=[],
            network_disabled=True,
            host_config=client.create_host_config(mem_limit=256 * MIB, cap_drop=["ALL"]),
        ),
    )
    identity = container["Id"]
    try:
        await engine.call("start the probe", lambda client: client.start(identity))
        await engine.call(
            "wait for the probe", lambda client: client.wait(identity, timeout=PROBE_SECONDS)
        )
        output = await engine.call(
            "read the probe", lambda client: client.logs(identity, stderr=False)
        )
    finally:
        await asyncio.shield(
            engine.call(
                "remove the probe",
                lambda client: client.remove_container(identity, force=True, v=True),
            )
        )
    return _parse_probe(output)


def _parse_probe(output: bytes) -> PythonPlatform:
    try:
        major, minor, machine, libc, libc_version = json.loads(output)
        glibc_minor = int(str(libc_version).split(".")[1])
    except (ValueError, IndexError, TypeError):
        raise EngineFailed(
            f"the base image's python3 gave no answer: {one_line(output, 100)}",
            remedy="make it again with `agenttrace setup`",
        ) from None
    if libc != "glibc":
        raise EngineFailed(f"the base image has no glibc but {one_line(str(libc))!r}")
    return PythonPlatform(version=(major, minor), machine=machine, glibc_minor=glibc_minor)


class WheelCache:
    """Directories of wheels by what was asked for; each is there whole or not at all."""

    def __init__(self, directory: Path, limits: BuildLimits) -> None:
        self._directory = directory
        self._limits = limits

    async def installer(self, platform: PythonPlatform) -> Path:
        """The wheel of pip itself."""
        directory = await self._directory_for(f"{INSTALLER}\n".encode(), platform, INSTALLER)
        return next(directory.glob("pip-*.whl"))

    async def wheels(self, lines: tuple[PinnedLine, ...], platform: PythonPlatform) -> list[Path]:
        """Wheels of the requirements and of all that they require. Raises BuildFailed."""
        directory = await self._directory_for(
            render_requirements(lines), platform, "requirements.txt"
        )
        return sorted(directory.glob("*.whl"))

    async def _directory_for(self, wanted: bytes, platform: PythonPlatform, shown: str) -> Path:
        key = hashlib.sha256(repr(platform).encode() + b"\n" + wanted).hexdigest()[:32]
        kept = self._directory / key
        if kept.is_dir():
            return kept
        self._directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._directory, prefix=".resolving-") as scratch:
            fresh = Path(scratch) / "wheels"
            await _download(wanted, platform, fresh, shown, self._limits)
            with suppress(OSError):  # another process was faster
                fresh.rename(kept)
        return kept


async def _download(
    wanted: bytes, platform: PythonPlatform, directory: Path, shown: str, limits: BuildLimits
) -> None:
    """Fills `directory`; the time and the size of it are limited as the build itself is."""
    directory.mkdir()  # noqa: ASYNC240 - one system call
    home = directory.parent
    asked = home / "requirements.txt"
    asked.write_bytes(wanted)
    log = home / "log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *_command(platform, directory, asked),
            cwd=home,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment(home),
            start_new_session=True,
        )
        problem = await _supervise(process, directory.parent, limits)
    text = log.read_bytes()
    if problem or process.returncode != 0:
        raise _explained(problem, text, platform, shown)


def _command(platform: PythonPlatform, directory: Path, asked: Path) -> list[str]:
    major, minor = platform.version
    tags = [f"--platform={tag}" for tag in platform.tags]
    abis = [f"--abi={abi}" for abi in (f"cp{major}{minor}", "abi3", "none")]
    return [
        *(sys.executable, "-I", "-m", "pip", "download", "--only-binary=:all:"),
        *("--no-input", "--no-color", "--progress-bar=off", "--disable-pip-version-check"),
        *(f"--python-version={major}.{minor}", "--implementation=cp", *abis, *tags),
        *(f"--dest={directory}", f"--requirement={asked}"),
    ]


def _environment(scratch: Path) -> dict[str, str]:
    """The operator's own: that is how pip finds its index. Only temporary files go elsewhere."""
    return {**os.environ, "TMPDIR": str(scratch)}


async def _supervise(
    process: asyncio.subprocess.Process, directory: Path, limits: BuildLimits
) -> str:
    """Waits for pip; ends it, and says why, when it goes beyond the limits."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limits.seconds
    waiting = asyncio.create_task(process.wait())
    try:
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=WATCH_SECONDS)
            if not waiting.done() and loop.time() > deadline:
                return f"resolving took longer than {limits.seconds:g} s (build.seconds)"
            if _size(directory) > limits.image_bytes:
                return f"its wheels exceed {limits.image_bytes // MIB} MiB (build.image_bytes)"
        return ""
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(waiting)


def _size(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size
    return total


def _explained(problem: str, log: bytes, platform: PythonPlatform, shown: str) -> BuildFailed:
    if problem:
        return BuildFailed(f"{shown}: {problem}", remedy="require less", log=log)
    if missing := _NO_WHEEL.search(log):
        return BuildFailed(
            f"{shown}: no wheel of {one_line(missing[1].strip(), 80)} for {platform.shown}",
            remedy="require a version that has one, vendor the package, or submit a Dockerfile",
            log=log,
        )
    errors = _LAST_ERROR.findall(log)
    reason = one_line(errors[-1].strip() if errors else log.strip()[-200:], 200)
    return BuildFailed(
        f"{shown}: the wheels could not be resolved: {reason}",
        remedy="check the versions, and the index that pip is configured for",
        log=log,
    )
