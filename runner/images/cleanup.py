"""Removes the images and volumes that this program made, by the names that only it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import docker.errors

from runner.engine import EngineClient
from runner.images.bases import REPOSITORY as BASES
from runner.images.bases import ROOT_REPOSITORY as ROOTS
from runner.images.builder import REPOSITORY as SUBMISSIONS
from runner.images.shim import REPOSITORY as SHIMS
from runner.images.shim import VOLUME_PREFIX

if TYPE_CHECKING:
    from docker.api.client import APIClient


@dataclass(frozen=True, kw_only=True)
class Removed:
    """Names of what was removed, and of what was not because something uses it."""

    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


async def remove_images(client: EngineClient, *, everything: bool, dry_run: bool) -> Removed:
    """With `everything`, all images of submissions and of the set-up, and the shim's volumes.

    Without it nothing: a built image is a cache that the next run of the submission wants.
    """
    if not everything:
        return Removed()
    return await client.call("remove images", lambda api: _remove_all(api, dry_run=dry_run), 300)


def _remove_all(api: APIClient, *, dry_run: bool) -> Removed:
    removers = [(f"image {tag}", lambda tag=tag: api.remove_image(tag)) for tag in _tags(api)]
    removers += [
        (f"volume {name}", lambda name=name: api.remove_volume(name)) for name in _volumes(api)
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


def _tags(api: APIClient) -> list[str]:
    """Those of submissions first: they are made from the others."""
    return [
        tag
        for repository in (SUBMISSIONS, SHIMS, BASES, ROOTS)
        for image in api.images(name=repository)
        for tag in image.get("RepoTags") or ()
        if tag.startswith(f"{repository}:")
    ]


def _volumes(api: APIClient) -> list[str]:
    found = api.volumes(filters={"name": VOLUME_PREFIX}).get("Volumes") or []
    return [v["Name"] for v in found if v["Name"].startswith(VOLUME_PREFIX)]
