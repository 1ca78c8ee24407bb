"""The shim in images that have no Python, and in one that has nothing but the agent."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.domain import EndingKind, HttpInterface, StdioInterface
from runner.engine import EngineClient
from runner.evaluation.verdict import judge
from tests.integration.conftest import Build, Lab, archive
from tests.integration.outcomes import SMALL

pytestmark = pytest.mark.docker

APPLETS = ("sh", "cat", "sleep", "id", "ls", "nc", "httpd", "printf")


@pytest.fixture(scope="module")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """One static binary, from the Debian archive that this host's apt is configured for."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        pytest.skip("no apt to fetch a static busybox with")
    directory = tmp_path_factory.mktemp("busybox")
    download = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", "busybox-static"]
    subprocess.run(download, cwd=directory, check=True, timeout=120)
    (package,) = directory.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", package, directory / "x"], check=True)
    found = [p for p in (directory / "x").rglob("busybox") if p.is_file() and not p.is_symlink()]
    binary = next(path.read_bytes() for path in found if path.read_bytes()[:4] == b"\x7fELF")
    shutil.rmtree(directory)
    return binary


@pytest.fixture(scope="module")
def busybox_image(engine: EngineClient, busybox: bytes) -> Iterator[str]:
    """Imported as a root file system, not built."""
    links = {f"bin/{applet}": "busybox" for applet in APPLETS}
    root = archive({"bin/busybox": busybox, "etc/passwd": b"root:x:0:0::/:/bin/sh\n"}, links)
    repository = "agenttrace-test/busybox"
    engine.call_blocking(
        "import",
        lambda api: api.import_image_from_data(root.getvalue(), repository=repository, tag="1"),
    )
    found = engine.call_blocking("inspect", lambda api: api.inspect_image(f"{repository}:1"))
    yield found["Id"]
    engine.call_blocking("rmi", lambda api: api.remove_image(f"{repository}:1", force=True))


@pytest.fixture(scope="module")
def scratch_image(build: Build, busybox: bytes) -> str:
    """FROM scratch, with exactly one file in it."""
    dockerfile = b"FROM scratch\nCOPY busybox-agent /busybox-agent\n"
    return build({"Dockerfile": dockerfile, "busybox-agent": busybox})


async def test_busybox_answers(lab: Lab, busybox_image: str) -> None:
    script = "cat > /output/request; printf 42; echo hm >&2; id -u > /output/uid"
    made = await lab.run(
        lab.image(StdioInterface(command=("sh", "-c", script)), busybox_image), SMALL
    )
    assert (made.reply.ending.kind, made.reply.output) == (EndingKind.ANSWERED, "42")
    assert made.reply.stderr == b"hm\n"
    assert (lab.artifacts / "uid").read_text() == "10001\n"
    assert b'"prompt": "what?"' in (lab.artifacts / "request").read_bytes()
    assert made.measurement
    assert made.agent_confirmed_dead


async def test_busybox_serves(lab: Lab, busybox_image: str) -> None:
    """No HTTP server that anybody would want, but one: the answer is a file."""
    response = 'HTTP/1.0 200 OK\\r\\nContent-Length: 16\\r\\n\\r\\n{"output": "hi"}'
    script = f"while :; do printf '{response}' | nc -l -p 8000 127.0.0.1; done"
    interface = HttpInterface(command=("sh", "-c", script), port=8000)
    made = await lab.run(lab.image(interface, busybox_image), SMALL)
    assert (made.reply.ending.kind, made.reply.output) == (EndingKind.ANSWERED, "hi")


async def test_a_single_static_binary_answers(
    lab: Lab, scratch_image: str, engine: EngineClient
) -> None:
    layers = engine.call_blocking("inspect", lambda api: api.inspect_image(scratch_image))
    assert len(layers["RootFS"]["Layers"]) == 1
    command = ("/busybox-agent", "sh", "-c", "echo hi > /output/x; printf 42; exit 0")
    made = await lab.run(lab.image(StdioInterface(command=command), scratch_image), SMALL)
    assert (made.reply.ending.kind, made.reply.output) == (EndingKind.ANSWERED, "42")
    assert [artifact.path for artifact in made.artifacts] == ["x"]


async def test_a_single_static_binary_out_of_time(lab: Lab, scratch_image: str) -> None:
    limits = SMALL.model_copy(update={"time_seconds": 0.5})
    interface = StdioInterface(command=("/busybox-agent", "sleep", "1000"))
    made = await lab.run(lab.image(interface, scratch_image), limits)
    assert judge(made).reason == "agent_timeout"
    assert made.agent_confirmed_dead


def test_there_is_exactly_one_file_in_the_image(engine: EngineClient, scratch_image: str) -> None:
    saved = engine.call_blocking("save", lambda api: b"".join(api.get_image(scratch_image)))
    with tarfile.open(fileobj=io.BytesIO(saved)) as image:
        layers = [member for member in image if Path(member.name).name == "layer.tar"]
        blobs = layers or [m for m in image if "blobs/" in m.name and m.isfile()]
        names = [name for blob in blobs for name in names_in(image, blob)]
    assert names == ["busybox-agent"]


def names_in(image: tarfile.TarFile, blob: tarfile.TarInfo) -> list[str]:
    """Of a layer; nothing where the blob is none."""
    try:
        with tarfile.open(fileobj=image.extractfile(blob)) as layer:
            return layer.getnames()
    except tarfile.ReadError:
        return []
