"""The shim's image, and the volume that every sandbox mounts it from.

A volume is filled by the engine itself: it copies an image's files into an empty volume when a
container is created with both. The copy can be cut short (a killed engine), a volume can be removed
and come back empty, and neither a volume's name nor its labels can change once it is filled. So
what says "this volume is whole" is a tag on the shim's image that names the volume by its time of
creation, and it is set only after the volume's files were read back and compared with the image's.
A volume without that tag is compared again, and replaced unless it is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

import docker.errors
from docker.types import Mount

from runner.assets import asset
from runner.domain.mounts import SHIM_DIRECTORY
from runner.engine import EngineClient
from runner.errors import EngineFailed
from runner.images.bases import BaseImage
from runner.images.ours import build, context_of, digest_of, inspect_image
from runner.ports import Say

if TYPE_CHECKING:
    from docker.api.client import APIClient

REPOSITORY = "agenttrace/shim"
VOLUME_PREFIX = "agenttrace-shim-"
CONTAINER_PREFIX = "agenttrace-setup-"
FILL_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class ShimImage:
    """The shim's image and its volume, which is known to be whole."""

    image_id: str
    volume: str
    """Mount it read-only and without copy-up (`no_copy`), or a removed volume would be filled
    from the hostile image that it is mounted into."""


async def find_shim(client: EngineClient, base: BaseImage) -> ShimImage | None:
    """The shim that was made from `base` and this version's files; None if not all is there."""
    digest = _digest(base)
    return await client.call("find the shim", lambda api: _find(api, digest))


async def make_shim(client: EngineClient, base: BaseImage, say: Say) -> ShimImage:
    """Builds what is missing of the shim's image and volume; raises EngineFailed."""
    digest = _digest(base)
    tag = f"{REPOSITORY}:{digest}"
    if await client.call("find the shim's image", lambda api: inspect_image(api, tag)) is None:
        say("building the shim's image")
        await build(client, context_of(asset("sandbox_images/shim")), tag=tag, base=base.tag)
    say("filling the shim's volume")
    return await client.call(
        "fill the shim's volume", lambda api: _make_volume(api, digest), FILL_SECONDS
    )


def _digest(base: BaseImage) -> str:
    return digest_of(context_of(asset("sandbox_images/shim")), base.image_id)


def _find(api: APIClient, digest: str) -> ShimImage | None:
    image = inspect_image(api, f"{REPOSITORY}:{digest}")
    volume = _inspect_volume(api, f"{VOLUME_PREFIX}{digest}")
    if image is None or volume is None or not _known_whole(image, digest, volume):
        return None
    return ShimImage(image_id=image["Id"], volume=volume["Name"])


def _known_whole(image: dict[str, Any], digest: str, volume: dict[str, Any]) -> bool:
    return f"{REPOSITORY}:{_whole_tag(digest, volume)}" in image["RepoTags"]


def _whole_tag(digest: str, volume: dict[str, Any]) -> str:
    created = re.sub(r"[^0-9A-Za-z]", "", str(volume["CreatedAt"]))
    return f"{digest}-whole-{created}"


def _make_volume(api: APIClient, digest: str) -> ShimImage:
    image, name = f"{REPOSITORY}:{digest}", f"{VOLUME_PREFIX}{digest}"
    if _inspect_volume(api, name) is None:
        _fill(api, image, name)
    elif not _is_whole(api, image, name):
        _remove_volume(api, name)
        _fill(api, image, name)
    if not _is_whole(api, image, name):
        raise EngineFailed(
            "the engine did not copy the shim into its volume",
            remedy="check the engine's free disk and log, then repeat `agenttrace setup`",
        )
    api.tag(image, REPOSITORY, _whole_tag(digest, api.inspect_volume(name)))
    found = _find(api, digest)
    if found is None:
        raise EngineFailed(
            "the shim's image or volume was removed while it was made",
            remedy="repeat `agenttrace setup`",
        )
    return found


def _fill(api: APIClient, image: str, volume: str) -> None:
    api.create_volume(name=volume, labels={"agenttrace.shim": image.partition(":")[2]})
    with _created(api, "fill", image, Mount(SHIM_DIRECTORY, volume, type="volume")):
        pass  # the copy is made by creating the container


def _is_whole(api: APIClient, image: str, volume: str) -> bool:
    mount = Mount(SHIM_DIRECTORY, volume, type="volume", read_only=True, no_copy=True)
    with _created(api, "image", image) as bare, _created(api, "volume", image, mount) as mounted:
        return _tree(api, bare) == _tree(api, mounted)


def _remove_volume(api: APIClient, volume: str) -> None:
    try:
        api.remove_volume(volume)
    except docker.errors.APIError as error:
        raise EngineFailed(
            f"the shim's volume {volume} is damaged and in use",
            remedy="end the runs on this engine (`agenttrace cleanup`), then repeat the set-up",
        ) from error


@contextlib.contextmanager
def _created(api: APIClient, role: str, image: str, *mounts: Mount) -> Iterator[str]:
    """A container that is never started; it replaces one of its name that a killed set-up left."""
    name = f"{CONTAINER_PREFIX}{role}-{image.partition(':')[2]}"
    _remove_container(api, name)
    api.create_container(
        image,
        name=name,
        command=["never-started"],
        network_disabled=True,
        host_config=api.create_host_config(mounts=list(mounts), network_mode="none"),
        labels={"agenttrace.role": "setup"},
    )
    try:
        yield name
    finally:
        _remove_container(api, name)


def _remove_container(api: APIClient, name: str) -> None:
    try:
        api.remove_container(name, force=True)
    except docker.errors.NotFound:
        return


def _tree(api: APIClient, container: str) -> dict[str, tuple[object, ...]]:
    """Type, mode, owner and content of each file under the shim's directory.

    The archive API is safe here: the image is ours, and nothing ever runs in the container.
    """
    chunks, _ = api.get_archive(container, SHIM_DIRECTORY)
    stream = cast("IO[bytes]", _Chunks(chunks))
    entries: dict[str, tuple[object, ...]] = {}
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            content = tar.extractfile(member)
            digest = hashlib.sha256(content.read() if content else b"").hexdigest()
            facts = (member.type, member.mode, member.uid, member.gid, member.linkname, digest)
            entries[member.name.rstrip("/")] = facts
    return entries


class _Chunks:
    """A readable file of an iterator's chunks, as far as tarfile's stream mode reads one."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end."""
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._rest += chunk
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def _inspect_volume(api: APIClient, name: str) -> dict[str, Any] | None:
    try:
        return dict(api.inspect_volume(name))
    except docker.errors.NotFound:
        return None
