"""Images are held while they are used, and their use is noted: `cleanup` goes by it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from runner.bootstrap.host import Host, images_of, journals_of
from runner.config import Settings, state_directory
from runner.domain import RunPlan
from runner.engine import EngineClient
from runner.images.use import ImageUse, NotedImages
from runner.ports import ImageProvider


def noted_images(host: Host) -> ImageProvider:
    """As `images_of`, and their use is noted, so that `cleanup` knows which are wanted."""
    use = image_use_of(host.settings, host.client)
    return NotedImages(images_of(host), host.client, use)


@contextmanager
def image_held(host: Host | None, plan: RunPlan) -> Iterator[None]:
    """Within it no `cleanup` removes the image of `plan`; a run does all its work in it."""
    if host is None or plan.image is None:
        yield
        return
    with image_use_of(host.settings, host.client).held(plan.image.image_id):
        yield


def image_use_of(settings: Settings, client: EngineClient) -> ImageUse:
    """When images of this engine were used: beside the journals, a directory for each engine."""
    engine = journals_of(settings, client).name
    return ImageUse(state_directory(settings, os.environ) / "images-used" / engine)
