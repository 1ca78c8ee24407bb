"""Building the images that ship with us: trusted input, the engine's classic builder."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker.errors

from runner.engine import EngineClient
from runner.errors import EngineFailed

if TYPE_CHECKING:
    from docker.api.client import APIClient

BUILD_SECONDS = 300
LEFTOVER_LABEL = "agenttrace.leftover"
"""Set in our Dockerfiles on build stages that the classic builder leaves behind untagged."""


def context_of(directory: Path) -> bytes:
    """A tar of the files under `directory`; the same bytes for the same content, anywhere."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for file in sorted(directory.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                member = tarfile.TarInfo(file.relative_to(directory).as_posix())
                member.size = file.stat().st_size
                with file.open("rb") as content:
                    tar.addfile(member, content)
    return buffer.getvalue()


def digest_of(*parts: bytes | str) -> str:
    """Twelve hexadecimal digits that name an image by what it is made of."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:12]


async def build(client: EngineClient, context: bytes, *, tag: str, base: str) -> str:
    """Builds a Dockerfile of ours from `base`, without network; returns the build's output.

    Raises EngineFailed with the last of that output when a step fails.
    """
    output = await client.call(
        f"build {tag}", lambda api: _build(api, context, tag, base), BUILD_SECONDS
    )
    await client.call("remove the builder's leftovers", _remove_leftovers)
    return output


def _build(api: APIClient, context: bytes, tag: str, base: str) -> str:
    events = api.build(
        fileobj=io.BytesIO(context),
        custom_context=True,
        tag=tag,
        buildargs={"BASE_IMAGE": base},
        network_mode="none",
        nocache=True,  # a cached step prints nothing, and what is cached need not be whole
        rm=True,
        forcerm=True,
        decode=True,
    )
    output = ""
    for event in events:
        output += event.get("stream", "")
        if "error" in event:
            last = " | ".join(output.strip().splitlines()[-5:])
            raise EngineFailed(
                f"building {tag} failed: {' '.join(str(event['error']).split())}; {last}",
                remedy="check the engine's free disk and log, then repeat `agenttrace setup`",
            )
    return output


def _remove_leftovers(api: APIClient) -> None:
    filters = {"dangling": True, "label": LEFTOVER_LABEL}
    for image in api.images(filters=filters, quiet=True):
        try:
            api.remove_image(image)
        except docker.errors.APIError:
            continue  # another set-up's build is using it, and will remove it


def inspect_image(api: APIClient, reference: str) -> dict[str, Any] | None:
    """The engine's description of an image; None when it has none of that name."""
    try:
        return dict(api.inspect_image(reference))  # type: ignore[no-untyped-call] # in its stubs
    except docker.errors.ImageNotFound:
        return None
