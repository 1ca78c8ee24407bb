"""Removes the images and volumes that this program made, by the names that only it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import docker.errors

from runner.engine import EngineClient
from runner.images.bases import REPOSITORY as BASES
from runner.images.bases import ROOT_REPOSITORY as ROOTS
from runner.images.builder import REPOSITORY as SUBMISSIONS
from runner.images.setup import SetUp
from runner.images.shim import REPOSITORY as SHIMS
from runner.images.shim import VOLUME_PREFIX

if TYPE_CHECKING:
    from docker.api.client import APIClient

REMOVAL_SECONDS = 300


@dataclass(frozen=True, kw_only=True)
class Removed:
    """Names of what was removed, and of what was not because something uses it."""

    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


async def remove_all(client: EngineClient, *, dry_run: bool) -> Removed:
    """All images of submissions and of the set-up, and the shim's volumes."""
    repositories = (SUBMISSIONS, SHIMS, BASES, ROOTS)  # each is made from those after it
    return await client.call(
        "remove images",
        lambda api: _remove(
            api, [t for r in repositories for t in _tags(api, r)], _volumes(api), dry_run=dry_run
        ),
        REMOVAL_SECONDS,
    )


async def remove_superseded(client: EngineClient, current: SetUp, *, dry_run: bool) -> Removed:
    """The shims of other versions of this program, which make them again when they are set up.

    Built images of submissions stay: they are a cache that the next run wants.
    """
    version = current.shim_volume.removeprefix(VOLUME_PREFIX)
    return await client.call(
        "remove superseded shims",
        lambda api: _remove(
            api,
            [tag for tag in _tags(api, SHIMS) if version not in tag],
            [volume for volume in _volumes(api) if volume != current.shim_volume],
            dry_run=dry_run,
        ),
        REMOVAL_SECONDS,
    )


def _remove(
    api: APIClient, tags: Iterable[str], volumes: Iterable[str], *, dry_run: bool
) -> Removed:
    removers: list[tuple[str, Callable[[], object]]] = [
        *((f"image {tag}", partial(api.remove_image, tag)) for tag in tags),
        *((f"volume {name}", partial(api.remove_volume, name)) for name in volumes),
    ]
    if dry_run:
        return Removed(removed=tuple(name for name, _ in removers))
    return _apply(removers)


def _apply(removers: Iterable[tuple[str, Callable[[], object]]]) -> Removed:
    removed, kept = [], []
    for name, remove in removers:
        try:
            remove()
        except docker.errors.NotFound:
            continue
        except docker.errors.APIError as error:
            kept.append(f"{name}: {error.explanation}")
        else:
            removed.append(name)
    return Removed(removed=tuple(removed), kept=tuple(kept))


def _tags(api: APIClient, repository: str) -> list[str]:
    return [
        tag
        for image in api.images(name=repository)
        for tag in image.get("RepoTags") or ()
        if tag.startswith(f"{repository}:")
    ]


def _volumes(api: APIClient) -> list[str]:
    found = api.volumes(filters={"name": VOLUME_PREFIX}).get("Volumes") or []
    return [v["Name"] for v in found if v["Name"].startswith(VOLUME_PREFIX)]
