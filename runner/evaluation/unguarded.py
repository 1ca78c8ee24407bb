"""What stands in for guards where there is nothing of ours to be guarded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from runner.domain import Limits


class AlwaysOpen:
    """Implements ports.Gate: every attempt may be made."""

    async def enter(self) -> None:
        """See ports.Gate."""

    async def succeeded(self) -> None:
        """See ports.Gate."""

    async def failed(self, reason: str) -> None:
        """See ports.Gate."""

    async def withdrawn(self) -> None:
        """See ports.Gate."""


class NoAdmission:
    """Implements ports.AdmissionControl: an agent that runs elsewhere claims nothing here."""

    @asynccontextmanager
    async def admitted(self, limits: Limits) -> AsyncIterator[None]:  # noqa: ARG002
        """See ports.AdmissionControl."""
        yield
