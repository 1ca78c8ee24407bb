"""What this host's isolation really does, tried out in throwaway containers and judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from runner.doctor.findings import Cpus, Finding, Isolation
from runner.doctor.probe import SMALL, NotProbed, probe_cpus, probe_isolation
from runner.doctor.promises import CPUS, ENGINE, ISOLATION, EngineFacts, Promise
from runner.domain import MIB, Image, Limits
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
    isolation: Isolation | NotProbed, image: Image, sandbox: Sandbox, transport: Transport
) -> Cpus | NotProbed:
    """The second probe; where the first could not run, the second would not either."""
    if isinstance(isolation, NotProbed):
        return isolation
    return await probe_cpus(image, sandbox, transport)


def _ran(isolation: Isolation | NotProbed, cpus: Cpus | NotProbed) -> Check:
    failed = next((probe for probe in (isolation, cpus) if isinstance(probe, NotProbed)), None)
    return Check(
        name=CONTAINER,
        ok=failed is None,
        required=True,
        promised="a container with every setting of a real attempt starts, answers and is removed",
        found=failed.reason if failed else f"two did, with small limits: {_limits(SMALL)}",
        remedy=failed.remedy if failed else "",
    )


def _limits(limits: Limits) -> str:
    return (
        f"{limits.memory_bytes // MIB} MiB memory, {limits.pids} processes,"
        f" {limits.disk_bytes // MIB} MiB disk"
    )


def _judged(promises: Sequence[Promise[E]], evidence: E | NotProbed) -> Iterator[Check]:
    for promise in promises:
        if isinstance(evidence, NotProbed):
            finding = Finding(None, "not tried: the probe did not run")
        else:
            finding = promise.judge(evidence)
        yield Check(
            name=promise.name,
            ok=finding.ok,
            required=False,
            promised=promise.promised,
            found=finding.found,
            remedy="" if finding.ok else promise.remedy,
        )


def _is_required(name: str, required: Sequence[str]) -> bool:
    return name in required or name.partition(".")[0] in required


def _unknown(required: Sequence[str], known: Sequence[str]) -> Iterator[Check]:
    """A promise that nobody can check is not kept."""
    guarantees = {name.partition(".")[0] for name in known}
    for name in required:
        if name not in guarantees and name not in known:
            yield Check(
                name=name,
                ok=False,
                required=True,
                promised="something that sandbox.require asks for",
                found=f"this doctor does not know {name!a}",
                remedy=f"known are: {', '.join(sorted(guarantees))}",
            )
