"""Containers that could not be removed when their session ended, or may yet come into being."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from runner.errors import InfrastructureError
from runner.sandbox.journal import Journal

LATEST_SECONDS = 600.0
"""How long after a lost reply a container may still appear; after that the next reaper looks."""

Remove = Callable[[str], Awaitable[bool]]
"""Kills and removes the container of that name; False when there is none."""


class Leftovers:
    """Their names, which the journal keeps meanwhile, so that a reaper knows them too."""

    def __init__(self, journal: Journal, remove: Remove) -> None:
        self._journal = journal
        self._remove = remove
        self._since: dict[str, float] = {}
        self._certain: set[str] = set()

    def certain(self, name: str) -> None:
        """The engine has answered its `create`: it is there, or never will be."""
        self._certain.add(name)

    async def end(self, name: str, remove: Remove) -> None:
        """Removes it, or remembers it where that fails or its `create` may still be under way."""
        try:
            found = await remove(name)
        except InfrastructureError:
            self._since[name] = time.monotonic()
            raise
        if found or name in self._certain:
            self._forget(name)
        else:
            self._since[name] = time.monotonic()

    async def sweep(self) -> None:
        """Tries those again that are left; whatever the engine says, it does not raise."""
        for name, since in list(self._since.items()):
            with suppress(InfrastructureError):
                found = await self._remove(name)
                if found or name in self._certain:
                    self._forget(name)
                elif time.monotonic() - since > LATEST_SECONDS:
                    self._since.pop(name, None)

    def _forget(self, name: str) -> None:
        self._since.pop(name, None)
        self._certain.discard(name)
        self._journal.forget(name)
