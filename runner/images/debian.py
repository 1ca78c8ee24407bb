"""A root directory with Python from the archive that the host's apt is configured for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from runner.assets import asset
from runner.engine.install import apt_install, can_install
from runner.errors import NotSetUp
from runner.ports import Say

PACKAGES = (
    "base-files",
    "base-passwd",
    "bash",
    "ca-certificates",
    "coreutils",
    "dash",
    "findutils",
    "grep",
    "gzip",
    "libc-bin",
    "libstdc++6",
    "mawk",
    "perl-base",
    "python3",
    "sed",
    "tar",
)
ARCHIVE = "root.tar"
MAKE_SECONDS = 240.0
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
KEYS = ("/usr/share/keyrings/debian-archive-*", "/usr/share/keyrings/ubuntu-*")
TRUSTED_KEYS = "/etc/apt/trusted.gpg.d/*"
_OTHER_WAYS = (
    "or load an image with Python into the engine (`docker load`) and name it in the setting "
    "images.base_reference"
)


@contextlib.asynccontextmanager
async def root_archive(machine: str, say: Say) -> AsyncIterator[Path]:
    """A tar of a small root directory with Python for `machine` (x86_64, aarch64).

    It is gone on exit, and so is whatever made it. Raises NotSetUp when this host cannot make one.
    """
    await asyncio.to_thread(_have_mmdebstrap, say)
    say("making the base image from this host's package archive (about 10 s)")
    with tempfile.TemporaryDirectory(prefix="agenttrace-base-") as name:
        directory = Path(name)
        await _run(await asyncio.to_thread(_command, machine, directory), directory)
        yield directory / ARCHIVE


def _have_mmdebstrap(say: Say) -> None:
    if shutil.which("mmdebstrap"):
        return
    if not can_install():
        raise NotSetUp(
            "no registry answers, and without mmdebstrap this host cannot make the base image",
            remedy=f"install it (`sudo apt-get install mmdebstrap`), {_OTHER_WAYS}",
        )
    apt_install(("mmdebstrap",), say)


def _command(machine: str, directory: Path) -> list[str]:
    directory.chmod(0o755)  # apt downloads as a user of its own
    fix_up = shlex.quote(str(asset("sandbox_images/python/fix-up.sh")))
    suite = _suite()
    return [
        "mmdebstrap",
        "--variant=extract",
        f"--architectures={ARCHITECTURES.get(machine, machine)}",
        f"--include={','.join(PACKAGES)}",
        f"--keyring={_keyring(directory)}",
        *(f"--aptopt={option}" for option in _apt_network_options()),
        f'--setup-hook=sh {fix_up} before "$1"',
        f'--extract-hook=sh {fix_up} after "$1"',
        "--skip=output/dev",  # the engine makes its own
        "--format=tar",
        suite,
        str(directory / ARCHIVE),
        *_mirrors(suite),
    ]


def _suite() -> str:
    """The code name of this host's release: bookworm, noble."""
    release = Path("/etc/os-release")
    text = release.read_text("utf-8") if release.exists() else ""
    for line in text.splitlines():
        if line.startswith("VERSION_CODENAME="):
            return shlex.split(line.partition("=")[2])[0]
    raise NotSetUp(
        "no registry answers, and this host's release names no package archive for a base image",
        remedy=f"make a registry reachable, {_OTHER_WAYS}",
    )


def _mirrors(suite: str) -> list[str]:
    """This release and its updates, as apt itself reads its sources."""
    wanted = {suite, f"{suite}-updates", f"{suite}-security"}
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    lines = _output_of(
        "apt-get", "indextargets", "--format", form, "Created-By: Packages"
    ).splitlines()
    sources = dict.fromkeys(tuple(line.split()) for line in lines)
    mirrors = [
        f"deb {uri} {release} {component}"
        for uri, release, component in (source for source in sources if len(source) == 3)
        if release in wanted and component == "main" and not uri.startswith("cdrom:")
    ]
    if not mirrors:
        raise NotSetUp(
            f"apt's sources name no archive of {suite} to make the base image from",
            remedy=f"see /etc/apt/sources.list.d, {_OTHER_WAYS}",
        )
    return mirrors


def _keyring(directory: Path) -> Path:
    """The keys that this host trusts for its own release, wherever that keeps them."""
    keyring = directory / "keys"
    keyring.mkdir()
    for pattern in (*KEYS, TRUSTED_KEYS):
        for key in Path("/").glob(pattern.lstrip("/")):
            if key.is_file() and key.suffix in (".gpg", ".asc"):
                shutil.copy(key, keyring / key.name)
    return keyring


def _apt_network_options() -> Iterator[str]:
    """The proxy and certificate settings of the host's apt, without which it reaches nothing."""
    for line in _output_of("apt-config", "dump").splitlines():
        name = line.partition(" ")[0].lower()
        if name.startswith(("acquire::http::", "acquire::https::")) and name.endswith(
            ("proxy", "cainfo", "verify-peer")
        ):
            yield line


def _output_of(*command: str) -> str:
    try:
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise NotSetUp(
            f"no registry answers, and `{command[0]}` does not tell where packages come from",
            remedy=f"make a registry reachable, {_OTHER_WAYS}",
        ) from error


async def _run(command: list[str], directory: Path) -> None:
    """Runs it to its end; kills it, and all that it started, when we are cancelled."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(directory)}
    environment |= {k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")}
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment | {"LC_ALL": "C.UTF-8"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), MAKE_SECONDS)
    except TimeoutError as error:
        raise NotSetUp(
            f"mmdebstrap did not finish within {MAKE_SECONDS:g} s",
            remedy="check that the package archive answers, then repeat `agenttrace setup`",
        ) from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode:
        raise NotSetUp(
            f"mmdebstrap failed: {_last_lines(output)}",
            remedy=f"check that the package archive answers (`apt-get update`), {_OTHER_WAYS}",
        )


def _last_lines(output: bytes) -> str:
    lines = output.decode(errors="backslashreplace").strip().splitlines()
    return " | ".join(lines[-4:])
