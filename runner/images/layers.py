"""What the engine's images take of its disk, layers that several of them share counted once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import docker.errors

if TYPE_CHECKING:
    from docker.api.client import APIClient

Chain = tuple[str, ...]
"""Digests of layers, the lowest first."""


@dataclass(frozen=True, kw_only=True)
class EngineImage:
    """An image as the engine describes it."""

    image_id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    """`name@sha256:...`, by which it was pulled."""
    labels: dict[str, str]
    parent: str
    """The image that its last build step began with; empty: unknown."""
    layers: Chain
    size_bytes: int
    """With all of its layers."""
    created_at: float
    """In seconds since 1970, as the image itself says."""


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """All images of an engine, and which ids its containers run."""

    images: tuple[EngineImage, ...]
    used_by: dict[str, tuple[str, ...]]
    """Names of the containers, running or not, by image id."""
    volumes_used_by: dict[str, tuple[str, ...]]

    @property
    def steps(self) -> frozenset[str]:
        """Ids of nameless images that others rest on: the engine removes them with the last."""
        parents = {image.parent for image in self.images}
        return frozenset(
            i.image_id for i in self.images if i.image_id in parents and not (i.tags or i.digests)
        )


class LayerLedger:
    """Who keeps which layers on the disk.

    A stretch of layers has the size by which the image that ends with it is larger than the image
    that ends below it, the steps of builds included. So what two images have in common counts once
    wherever the engine has an image that ends there, as it has for all that was built; a layer in
    two loaded archives counts twice, unless one of them rests on the other.
    """

    def __init__(self, inventory: Inventory) -> None:
        sizes = {image.layers: image.size_bytes for image in inventory.images}
        self._own = {chain: sizes[chain] - _below(chain, sizes) for chain in sizes}
        self._chains = {
            image.image_id: [chain for chain in _starts(image.layers) if chain in sizes]
            for image in inventory.images
            if image.image_id not in inventory.steps
        }
        self._owners = Counter(chain for chains in self._chains.values() for chain in chains)

    def bytes_of(self, image_ids: Iterable[str]) -> int:
        """What no image but these keeps on the disk."""
        among = Counter(chain for i in image_ids for chain in self._chains[i])
        return sum(self._own[c] for c, count in among.items() if count == self._owners[c])

    def remove(self, image_id: str) -> int:
        """Bytes that go with this image, those removed before being gone."""
        freed = self.bytes_of([image_id])
        self._owners.subtract(self._chains.pop(image_id))
        return freed


def _starts(layers: Chain) -> list[Chain]:
    return [layers[:end] for end in range(len(layers) + 1)]


def _below(chain: Chain, sizes: dict[Chain, int]) -> int:
    """Size of the largest image that it rests on."""
    return max((sizes[start] for start in _starts(chain)[:-1] if start in sizes), default=0)


def take_inventory(api: APIClient, ignored_containers: Iterable[str] = ()) -> Inventory:
    """What the engine has now, as if the containers of those names were gone already."""
    containers = [
        (name, container)
        for container in api.containers(all=True)
        for name in [str((container.get("Names") or [container["Id"]])[0]).lstrip("/")]
        if name not in set(ignored_containers)
    ]
    ids = dict.fromkeys(api.images(all=True, quiet=True))
    return Inventory(
        images=tuple(image for one in ids if (image := _inspected(api, one)) is not None),
        used_by=_grouped((str(each["ImageID"]), name) for name, each in containers),
        volumes_used_by=_grouped(
            (str(mount["Name"]), name)
            for name, each in containers
            for mount in each.get("Mounts") or ()
            if mount.get("Name")
        ),
    )


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    groups: dict[str, tuple[str, ...]] = {}
    for key, name in pairs:
        groups[key] = (*groups.get(key, ()), name)
    return groups


def _inspected(api: APIClient, image_id: str) -> EngineImage | None:
    try:
        details: dict[str, Any] = dict(api.inspect_image(image_id))  # type: ignore[no-untyped-call] # in its stubs
    except docker.errors.NotFound:
        return None
    return EngineImage(
        image_id=str(details["Id"]),
        tags=_names(details.get("RepoTags")),
        digests=_names(details.get("RepoDigests")),
        labels=dict((details.get("Config") or {}).get("Labels") or {}),
        parent=str(details.get("Parent") or ""),
        layers=tuple((details.get("RootFS") or {}).get("Layers") or ()),
        size_bytes=int(details.get("Size") or 0),
        created_at=_seconds(str(details.get("Created") or "")),
    )


def _names(names: list[str] | None) -> tuple[str, ...]:
    return tuple(name for name in names or () if "<none>" not in name)


def _seconds(text: str) -> float:
    """Long ago, where the image does not say: an archive may hold anything."""
    try:
        return datetime.fromisoformat(text[:19] + "+00:00").timestamp()
    except ValueError:
        return 0.0
