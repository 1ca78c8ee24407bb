"""What the host was like when a run was made."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from typing import Any

from pydantic import Field

from runner.domain.base import Noun

DISTRIBUTION = "agenttrace-runner"


class EnvironmentSnapshot(Noun):
    """The host, its Python and the seed. No environment variable is in it: they hold secrets."""

    captured_at: datetime
    random_seed: int
    runner_version: str
    python_version: str
    python_implementation: str
    platform: str
    kernel: str
    architecture: str
    cpus: int
    """That this process may use."""
    memory_bytes: int
    """Of the host."""
    packages: dict[str, str] = Field(default_factory=dict)
    """Installed distributions: name to version."""
    engine: dict[str, Any] | None = None
    """What the container engine says of itself; None where it was not asked."""

    @classmethod
    def capture(
        cls, random_seed: int = 42, *, engine: dict[str, Any] | None = None
    ) -> EnvironmentSnapshot:
        """The environment of this process, now; takes some 20 ms the first time."""
        return cls(
            captured_at=datetime.now(UTC),
            random_seed=random_seed,
            runner_version=runner_version(),
            python_version=platform.python_version(),
            python_implementation=platform.python_implementation(),
            platform=platform.platform(),
            kernel=platform.release(),
            architecture=platform.machine(),
            cpus=len(os.sched_getaffinity(0)),
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            packages=dict(_packages()),
            engine=engine,
        )


def runner_version() -> str:
    """Of this program; `0+source` when it runs from a directory that was never installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "0+source"


@cache
def _packages() -> tuple[tuple[str, str], ...]:
    # `.name` and `.version` would each parse the distribution's metadata again.
    found = (distribution.metadata for distribution in metadata.distributions())
    return tuple(
        sorted({each["Name"]: each["Version"] or "" for each in found if each["Name"]}.items())
    )
