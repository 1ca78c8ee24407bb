"""What this host's isolation really does, tried out in throwaway containers and judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from runner.domain import Image
from runner.evaluation.probe import NotProbed, Probed, probe_cpus, probe_isolation
from runner.evaluation.promises import CPUS, ENGINE, ISOLATION, EngineFacts, Promise
from runner.ports import Sandbox, Transport

__all__ = ["Check", "DoctorReport", "EngineFacts", "examine"]

CONTAINER = "container"
"""Name of the check that the probes ran at all; no host is healthy without."""

E = TypeVar("E")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One promise, and whether this host keeps it."""

    name: str
    """Its part before a dot, if it has one, is the guarantee that it belongs to."""
    ok: bool | None
    """None where it could not be found out."""
    required: bool
    promised: str
    found: str
    """In words of ours."""
    remedy: str


@dataclass(frozen=True, kw_only=True)
class DoctorReport:
    """Everything that was examined."""

    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """Everything required is known to be kept."""
        return all(check.ok is True for check in self.checks if check.required)


async def examine(
    engine: EngineFacts,
    image: Image,
    sandbox: Sandbox,
    transport: Transport,
    *,
    required: Sequence[str],
) -> DoctorReport:
    """Runs the probe (`image`) twice under the settings of a real attempt and judges what it finds.

    `required` has names of checks, or of guarantees (`seccomp` for all that begin so). Takes about
    two seconds. Never raises for what engine or container do: that is in the report.
    """
    isolation = await probe_isolation(image, sandbox, transport)
    cpus = await _after(isolation, image, sandbox, transport)
    checks = [
        _ran(isolation, cpus),
        *_judged(ENGINE, engine),
        *_judged(ISOLATION, isolation),
        *_judged(CPUS, cpus),
    ]
    marked = [replace(c, required=c.required or _is_required(c.name, required)) for c in checks]
    return DoctorReport(checks=(*marked, *_unknown(required, [check.name for check in marked])))


async def _after(
    isolation: Probed[T_] | NotProbed, image: Image, sandbox: Sandbox, transport: Transport
) -> object: ...
