"""The whole set-up of an engine: the base image, the shim's image, the shim's volume."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from runner.engine import EngineClient
from runner.errors import EngineFailed, NotSetUp
from runner.images.bases import DEFAULT_REFERENCE, BaseImage, find_base, make_base
from runner.images.shim import ShimImage, find_shim, make_shim
from runner.ports import Say

PULL_SECONDS = 300.0
WAIT_SECONDS = 600.0
"""How long a set-up waits for another one of this user on this host."""


@dataclass(frozen=True, kw_only=True)
class SetUp:
    """What `agenttrace setup` makes in an engine; everything else builds on it."""

    base_image_id: str
    base_tag: str
    """Names the base image by its content; for a FROM, since old builders take no image id."""
    python_version: str
    """Of the base image, major and minor: `3.11`."""
    shim_image_id: str
    shim_volume: str
    """To be mounted read-only and with `no_copy`."""


async def set_up(
    client: EngineClient,
    say: Say,
    *,
    base_reference: str = DEFAULT_REFERENCE,
    pull_seconds: float = PULL_SECONDS,
) -> SetUp:
    """Makes what is missing, and nothing that is there.

    Safe to interrupt, to repeat and to run twice at once. Raises EngineUnavailable, EngineFailed,
    NotSetUp (when this host cannot make it).
    """
    found = await _find(client, base_reference)
    if found:
        return found
    async with _alone(say):
        base = await find_base(client, base_reference) or await make_base(
            client, base_reference, pull_seconds, say
        )
        shim = await find_shim(client, base) or await make_shim(client, base, say)
        return _set_up(base, shim)


async def find_set_up(client: EngineClient, *, base_reference: str = DEFAULT_REFERENCE) -> SetUp:
    """What `set_up` has made in this engine; raises NotSetUp when some of it is missing."""
    found = await _find(client, base_reference)
    if found is None:
        raise NotSetUp(
            f"the engine at {client.address.url} lacks our images or the shim's volume",
            remedy="run `agenttrace setup`",
        )
    return found


async def _find(client: EngineClient, reference: str) -> SetUp | None:
    base = await find_base(client, reference)
    shim = await find_shim(client, base) if base else None
    return _set_up(base, shim) if base and shim else None


def _set_up(base: BaseImage, shim: ShimImage) -> SetUp:
    return SetUp(
        base_image_id=base.image_id,
        base_tag=base.tag,
        python_version=base.python_version,
        shim_image_id=shim.image_id,
        shim_volume=shim.volume,
    )


@contextlib.asynccontextmanager
async def _alone(say: Say) -> AsyncIterator[None]:
    """At most one set-up of this user on this host at a time; a killed one holds nothing.

    Others (another user's, another host's on the same engine) are harmless, only wasteful: every
    name in the engine says what its content is.
    """
    place = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(place / f"agenttrace-setup-{os.getuid()}.lock", flags, 0o600)
    try:
        await _lock(descriptor, say)
        yield
    finally:
        os.close(descriptor)


async def _lock(descriptor: int, say: Say) -> None:
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    waiting = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waiting:
                say("waiting for another set-up on this host")
            waiting = True
        else:
            return
        if asyncio.get_running_loop().time() > deadline:
            raise EngineFailed(
                f"another set-up has been running for {WAIT_SECONDS:g} s",
                remedy="see what it waits for, or end it, then repeat `agenttrace setup`",
            )
        await asyncio.sleep(0.1)
