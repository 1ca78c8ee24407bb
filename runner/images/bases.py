"""The base of every Python agent: pulled where a registry answers, else made on this host."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker.errors

from runner.assets import asset
from runner.engine import EngineClient
from runner.errors import EngineFailed, EngineUnavailable
from runner.images.debian import root_archive
from runner.images.ours import build, context_of, digest_of, inspect_image
from runner.ports import Say

if TYPE_CHECKING:
    from docker.api.client import APIClient

REPOSITORY = "agenttrace/python"
ROOT_REPOSITORY = "agenttrace/root"
DEFAULT_REFERENCE = "python:3.11-slim"
REGISTRY_SECONDS = 6
"""How long a registry may take to say what an image is; without one we wait no longer."""
IMPORT_SECONDS = 120
_CONFIGURATION = (
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "ENV LANG=C.UTF-8",
)


@dataclass(frozen=True, kw_only=True)
class BaseImage:
    """An image with Python, a shell and a CA bundle, and uid 10001 named `agent`."""

    image_id: str
    tag: str
    """By its content: `agenttrace/python:3.11-<12 hex>`."""
    python_version: str
    """Major and minor: `3.11`."""


async def find_base(client: EngineClient, reference: str) -> BaseImage | None:
    """The base that was made for `reference` (a setting), None if there is none."""
    pattern = f"{REPOSITORY}:*-{_digest(reference)}"
    images = await client.call(
        "find the base image", lambda api: api.images(filters={"reference": pattern})
    )
    suffix = f"-{_digest(reference)}"
    for image in images:
        for tag in image.get("RepoTags") or ():
            if tag.startswith(f"{REPOSITORY}:") and tag.endswith(suffix):
                version = tag.removeprefix(f"{REPOSITORY}:").removesuffix(suffix)
                return BaseImage(image_id=image["Id"], tag=tag, python_version=version)
    return None


async def make_base(
    client: EngineClient, reference: str, pull_seconds: float, say: Say
) -> BaseImage:
    """Makes the base image and tags it by its content and by its Python version.

    `reference` is tried in the engine, then at its registry, which has `pull_seconds` for the
    download; failing both the host's package archive is used. Raises EngineFailed, NotSetUp.
    """
    if await _present(client, reference) or await _pulled(client, reference, pull_seconds, say):
        return await _finish(client, reference, upstream=reference, say=say)
    root = f"{ROOT_REPOSITORY}:{_digest(reference)}"
    async with root_archive(client.info.architecture, say) as archive:
        await client.call(
            "import the base image", lambda api: _import(api, archive, root), IMPORT_SECONDS
        )
    try:
        return await _finish(client, reference, upstream=root, say=say)
    finally:
        await client.call("untag the imported root", lambda api: _untag(api, root))


def _digest(reference: str) -> str:
    return digest_of(context_of(asset("sandbox_images/python")), reference)


async def _present(client: EngineClient, reference: str) -> bool:
    found = await client.call("inspect image", lambda api: inspect_image(api, reference))
    return found is not None


async def _pulled(client: EngineClient, reference: str, seconds: float, say: Say) -> bool:
    """Whether a registry had `reference`; an image it has but does not deliver is an error."""
    say(f"asking the registry for {reference}")
    try:
        await client.call(
            "ask the registry",
            lambda api: api.inspect_distribution(reference),  # type: ignore[no-untyped-call]
            REGISTRY_SECONDS,
        )
    except EngineUnavailable:
        raise
    except EngineFailed as error:
        say(f"no registry has it ({_reason(error)})")
        return False
    say(f"pulling {reference}")
    await client.call(f"pull {reference}", lambda api: _pull(api, reference), int(seconds))
    return True


def _reason(error: EngineFailed) -> str:
    """The end of what the engine says, which is the cause."""
    return error.message.rstrip(')"').split(": ")[-1]


def _pull(api: APIClient, reference: str) -> None:
    for event in api.pull(reference, stream=True, decode=True):
        if "error" in event:
            raise EngineFailed(
                f"pulling {reference} failed: {event['error']}",
                remedy="check the registry and the engine's free disk, then repeat",
            )


def _import(api: APIClient, archive: Path, tag: str) -> None:
    repository, _, version = tag.partition(":")
    # by path: given a stream, docker-py (7.2) announces a chunked body and sends a plain one
    answer = api.import_image(
        str(archive), repository=repository, tag=version, changes=list(_CONFIGURATION)
    )
    for line in answer.splitlines():
        event: dict[str, Any] = json.loads(line)
        if "error" in event:
            raise EngineFailed(
                f"the engine did not import the base image: {event['error']}",
                remedy="check the engine's free disk and log",
            )


async def _finish(client: EngineClient, reference: str, *, upstream: str, say: Say) -> BaseImage:
    say("completing the base image")
    digest = _digest(reference)
    unversioned = f"{REPOSITORY}:{digest}"
    context = context_of(asset("sandbox_images/python"))
    try:
        output = await build(client, context, tag=unversioned, base=upstream)
        return await client.call(
            "tag the base image", lambda api: _tagged(api, unversioned, _version(output))
        )
    finally:
        await client.call("untag the base image", lambda api: _untag(api, unversioned))


def _version(output: str) -> str:
    """The Python version that the Dockerfile's last step prints."""
    found = re.search(r"^python (3\.\d+)$", output, re.MULTILINE)
    if found is None:
        raise EngineFailed(
            "the base image holds no Python 3", remedy="see the setting images.base_reference"
        )
    return found[1]


def _tagged(api: APIClient, unversioned: str, version: str) -> BaseImage:
    """Gives the image its lasting names."""
    image = inspect_image(api, unversioned)
    if image is None:
        raise EngineFailed(
            "the base image was removed while it was made", remedy="repeat `agenttrace setup`"
        )
    tag = f"{version}-{unversioned.partition(':')[2]}"
    for name in (tag, version):
        api.tag(image["Id"], REPOSITORY, name)
    return BaseImage(image_id=image["Id"], tag=f"{REPOSITORY}:{tag}", python_version=version)


def _untag(api: APIClient, tag: str) -> None:
    try:
        api.remove_image(tag, noprune=True)
    except docker.errors.ImageNotFound:
        return
