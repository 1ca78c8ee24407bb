"""Removes the containers that a killed runner left behind."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import requests.exceptions

from runner.engine import EngineClient
from runner.errors import EngineFailed
from runner.sandbox.journal import Abandoned, abandoned
from runner.sandbox.leftovers import LATEST_SECONDS

if TYPE_CHECKING:
    from docker.api.client import APIClient


async def reap(client: EngineClient, journals: Path, *, dry_run: bool = False) -> list[str]:
    """Names of the containers removed (or to be); those of living runners are left alone.

    A container that a runner asked for before it was killed may come into being after we looked:
    its journal is kept until that cannot be any more. Raises InfrastructureError when the engine
    cannot be asked; nothing is forgotten then.
    """
    gone: list[str] = []
    with abandoned(journals) as left:
        for journal in left:
            found = await _reap(client, journal, dry_run=dry_run)
            gone += found
            may_yet_come = len(found) < len(journal.names) and journal.age_seconds < LATEST_SECONDS
            if not dry_run and not may_yet_come:
                journal.forget()
    return gone


async def _reap(client: EngineClient, journal: Abandoned, *, dry_run: bool) -> list[str]:
    step = exists if dry_run else remove
    return [name for name in journal.names if await step(client, name)]


def _remove(docker: APIClient, name: str, ending_seconds: int) -> None:
    if ending_seconds:
        with suppress(requests.exceptions.RequestException):
            docker.wait(name, timeout=ending_seconds)
    docker.remove_container(name, v=True, force=True)


async def exists(client: EngineClient, name: str) -> bool:
    """Whether there is a container of that name."""
    try:
        await client.call("inspect container", lambda docker: docker.inspect_container(name))
    except EngineFailed as error:
        if error.not_found:
            return False
        raise
    return True


async def remove(client: EngineClient, name: str, ending_seconds: int = 0) -> bool:
    """Kills and removes a container and its anonymous volumes; False when there is none.

    A container that is ending by itself is given `ending_seconds`: it is spared the engine's
    own kill, for which the engine would start the runtime once more.
    """
    try:
        await client.call("remove container", lambda docker: _remove(docker, name, ending_seconds))
    except EngineFailed as error:
        if error.not_found:
            return False
        if error.status == 409:  # somebody else is removing it already
            return True
        raise
    return True
