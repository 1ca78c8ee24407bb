"""Removes the images and volumes that this program made, by the names that only it gives."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import methodcaller
from typing import TYPE_CHECKING

from runner.domain.removal import Cleaned, Kept, Removal, RemovalKind, size_text
from runner.domain.text import one_line
from runner.engine import EngineClient
from runner.errors import EngineFailed
from runner.images.bases import REPOSITORY as BASES
from runner.images.bases import ROOT_REPOSITORY as ROOTS
from runner.images.builder import REPOSITORY as SUBMISSIONS
from runner.images.classic import LABEL
from runner.images.layers import EngineImage, Inventory, LayerLedger, take_inventory
from runner.images.setup import SetUp
from runner.images.shim import REPOSITORY as SHIMS
from runner.images.shim import VOLUME_PREFIX
from runner.images.use import ImageUse

if TYPE_CHECKING:
    from collections.abc import Collection

    from docker.api.client import APIClient

INVENTORY_SECONDS = 300
REMOVAL_SECONDS = 300
RECENT_SECONDS = 120
"""From its preparation until its run takes hold of an image, with time to spare."""
INTERRUPTED_SECONDS = 3600
"""A finished image has its tag within seconds; one without it for so long will never get it."""
NOTE_SECONDS = 86400
"""Notes of images that are gone are dropped when they are older than this."""

UNUSED = "not used for longest, and the images of submissions take more than is allowed"
INTERRUPTED = "left by a build that was interrupted"
ASKED_FOR = "--all: it is made again when it is needed"
SUPERSEDED = "of another version of this program"
RUN_IN_PROGRESS = "a run in progress uses it"
NEEDED = "a run in progress, or an image that is kept, needs it"

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Marks:
    """By what we know our own images."""

    repository: str = SUBMISSIONS
    label: str = LABEL


class ImageCleanup:
    """One cleaning up of one engine; a dry one says the same and removes nothing.

    Its steps raise InfrastructureError when the engine cannot be asked.
    """

    def __init__(
        self,
        client: EngineClient,
        use: ImageUse,
        inventory: Inventory,
        *,
        dry_run: bool,
        marks: Marks | None = None,
    ) -> None:
        self._client = client
        self._use = use
        self._inventory = inventory
        self._dry_run = dry_run
        self._marks = marks or Marks()
        self._ledger = LayerLedger(inventory)
        self._now = time.time()

    @classmethod
    async def of(
        cls,
        client: EngineClient,
        use: ImageUse,
        *,
        dry_run: bool,
        reaped: Collection[str] = (),
        marks: Marks | None = None,
    ) -> ImageCleanup:
        """What the engine has now; `reaped` containers count as gone already."""
        inventory = await client.call(
            "list images", lambda api: take_inventory(api, reaped), INVENTORY_SECONDS
        )
        return cls(client, use, inventory, dry_run=dry_run, marks=marks)

    # -- steps ---------------------------------------------------------------------------------

    async def interrupted_builds(self) -> Cleaned:
        """Nameless images with our label, on which nothing rests, that are an hour old."""
        cleaned = Cleaned()
        for image in self._inventory.images:
            if self._is_left_over(image):
                cleaned += await self._remove_unless_used(image, INTERRUPTED, RECENT_SECONDS)
        return cleaned

    async def least_used(self, limit_bytes: int) -> Cleaned:
        """Images of submissions, the least recently used first, until the rest is small enough."""
        return await self._shrink(limit_bytes, UNUSED, RECENT_SECONDS)

    async def superseded(self, current: SetUp) -> Cleaned:
        """The shims of other versions of this program, which make them again when set up."""
        version = current.shim_volume.removeprefix(VOLUME_PREFIX)
        cleaned = Cleaned()
        for image in self._with_tags_of(SHIMS):
            tags = tuple(t for t in _tags(image, SHIMS) if version not in t)
            cleaned += await self._remove_tags(image, tags, SUPERSEDED)
        return cleaned + await self._remove_volumes(SUPERSEDED, spared=current.shim_volume)

    async def everything(self) -> Cleaned:
        """All images of submissions and what the set-up made, unless a run needs them."""
        cleaned = await self._shrink(None, ASKED_FOR, 0.0)
        if cleaned.kept or self._use.any_held():
            name = "what `setup` made"
            return cleaned + Cleaned(kept=(Kept(name=name, why=NEEDED),))
        for repository in (SHIMS, BASES, ROOTS):  # each is made from those after it
            for image in self._with_tags_of(repository):
                cleaned += await self._remove_tags(image, _tags(image, repository), ASKED_FOR)
        return cleaned + await self._remove_volumes(ASKED_FOR)

    def forget_gone(self) -> None:
        """Drops the old notes of the use of images that are gone."""
        if not self._dry_run:
            there = {image.image_id for image in self._inventory.images}
            self._use.forget_all_but(there, older_than=self._now - NOTE_SECONDS)

    # -- which ---------------------------------------------------------------------------------

    def _submissions(self) -> list[EngineImage]:
        """Those that have our names and nobody else's, the least recently used first."""
        ours = [
            image
            for image in self._with_tags_of(self._marks.repository)
            if _tags(image, self._marks.repository) == image.tags and not image.digests
        ]
        return sorted(ours, key=self._last_use)

    def _last_use(self, image: EngineImage) -> float:
        # The time at which it was made is the image's own word.
        return self._use.last(image.image_id, min(max(image.created_at, 0.0), self._now))

    def _with_tags_of(self, repository: str) -> list[EngineImage]:
        return [image for image in self._inventory.images if _tags(image, repository)]

    def _is_left_over(self, image: EngineImage) -> bool:
        return (
            not image.tags
            and not image.digests
            and image.image_id not in self._inventory.steps
            and _DIGEST.fullmatch(image.labels.get(self._marks.label, "")) is not None
            and self._now - image.created_at > INTERRUPTED_SECONDS
        )

    # -- one after the other -------------------------------------------------------------------

    async def _shrink(self, limit_bytes: int | None, why: str, recent_seconds: float) -> Cleaned:
        images = self._submissions()
        left = self._ledger.bytes_of(image.image_id for image in images)
        cleaned = Cleaned()
        for image in images:
            if limit_bytes is not None and left <= limit_bytes:
                return cleaned
            one = await self._remove_unless_used(image, why, recent_seconds)
            left -= sum(removal.bytes_freed or 0 for removal in one.removed)
            cleaned += one
        if cleaned.kept and limit_bytes is not None and left > limit_bytes:
            why = f"they still take {size_text(left)}; {size_text(limit_bytes)} are allowed"
            cleaned += Cleaned(kept=(Kept(name="images of submissions", why=why),))
        return cleaned

    async def _remove_unless_used(
        self, image: EngineImage, why: str, recent_seconds: float
    ) -> Cleaned:
        seen = self._last_use(image)
        if self._now - seen < recent_seconds:
            return _kept(image, f"it was used less than {RECENT_SECONDS // 60} minutes ago")
        with self._use.claimed(image.image_id) as free:
            if not free:
                return _kept(image, RUN_IN_PROGRESS)
            if self._last_use(image) != seen:
                return _kept(image, "it was used meanwhile")
            cleaned = await self._remove_tags(image, image.tags or (image.image_id,), why)
            if cleaned.removed and not self._dry_run:
                self._use.forget(image.image_id)
            return cleaned

    async def _remove_tags(self, image: EngineImage, tags: tuple[str, ...], why: str) -> Cleaned:
        """The image goes with the last of its names; one that a container runs keeps them all."""
        if users := self._inventory.used_by.get(image.image_id):
            return _kept(image, _used_by(users))
        cleaned = Cleaned()
        for tag in tags:
            name = f"image {tag}"
            with _refusal_kept(name) as refused:
                await self._do(name, methodcaller("remove_image", tag))
            if refused:
                return cleaned + Cleaned(kept=tuple(refused))
            gone = tag == tags[-1] and set(image.tags) <= set(tags)
            freed = self._ledger.remove(image.image_id) if gone else 0
            removal = Removal(kind=RemovalKind.IMAGE, name=name, why=why, bytes_freed=freed)
            cleaned += Cleaned(removed=(removal,))
        return cleaned

    async def _remove_volumes(self, why: str, spared: str = "") -> Cleaned:
        cleaned = Cleaned()
        for volume in await self._client.call("list volumes", _volumes):
            if volume != spared:
                cleaned += await self._remove_volume(volume, why)
        return cleaned

    async def _remove_volume(self, volume: str, why: str) -> Cleaned:
        name = f"volume {volume}"
        if users := self._inventory.volumes_used_by.get(volume):
            return Cleaned(kept=(Kept(name=name, why=_used_by(users)),))
        with _refusal_kept(name) as refused:
            await self._do(name, methodcaller("remove_volume", volume))
        if refused:
            return Cleaned(kept=tuple(refused))
        return Cleaned(removed=(Removal(kind=RemovalKind.VOLUME, name=name, why=why),))

    async def _do(self, what: str, remove: Callable[[APIClient], object]) -> None:
        if not self._dry_run:
            await self._client.call(f"remove {what}", remove, REMOVAL_SECONDS)


@contextmanager
def _refusal_kept(name: str) -> Iterator[list[Kept]]:
    """What the engine refuses to remove is kept for its reason; what is gone already, is gone."""
    kept: list[Kept] = []
    try:
        yield kept
    except EngineFailed as error:
        if not error.status:
            raise
        if not error.not_found:
            kept.append(Kept(name=name, why=one_line(error.message)))


def _kept(image: EngineImage, why: str) -> Cleaned:
    name = f"image {' '.join(image.tags) or image.image_id}"
    return Cleaned(kept=(Kept(name=name, why=why),))


def _used_by(containers: tuple[str, ...]) -> str:
    more = f" and {len(containers) - 1} more" if len(containers) > 1 else ""
    return f"container {one_line(containers[0], 80)}{more} uses it"


def _tags(image: EngineImage, repository: str) -> tuple[str, ...]:
    return tuple(tag for tag in image.tags if tag.startswith(f"{repository}:"))


def _volumes(api: APIClient) -> list[str]:
    found = api.volumes(filters={"name": VOLUME_PREFIX}).get("Volumes") or []
    return sorted(v["Name"] for v in found if v["Name"].startswith(VOLUME_PREFIX))
