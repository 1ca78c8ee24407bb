"""What the host was like when a run was made."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import Field

from runner.domain.base import Noun
from runner.domain.image import Image
from runner.domain.limits import Limits
from runner.domain.task import Suite

DISTRIBUTION = "agenttrace-runner"
_CGROUPS = Path("/sys/fs/cgroup")


class EnvironmentSnapshot(Noun):
    """The host, its Python, the seed, and what was run.

    No environment variable is in it: they hold secrets.
    """

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
    cgroup_version: int | None = None
    """Of this host, 1 or 2; the engine's may be another's. None where there are no cgroups."""
    image_digest: str = ""
    """The engine's id of the image that was run; empty: none was."""
    limits: dict[str, Any] = Field(default_factory=dict)
    """The configured ones, as `Limits` names them; empty where they were not given."""
    benchmark: str = ""
    """The suite's name."""
    benchmark_version: str = ""
    benchmark_digest: str = ""

    @classmethod
    def capture(
        cls,
        random_seed: int = 42,
        *,
        engine: dict[str, Any] | None = None,
        image: Image | None = None,
        limits: Limits | None = None,
        suite: Suite | None = None,
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
            cgroup_version=_cgroup_version(),
            image_digest=image.image_id if image else "",
            limits=limits.model_dump(mode="json") if limits else {},
            benchmark=suite.name if suite else "",
            benchmark_version=suite.version if suite else "",
            benchmark_digest=suite.digest if suite else "",
        )


def runner_version() -> str:
    """Of this program; `0+source` when it runs from a directory that was never installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "0+source"


def _cgroup_version() -> int | None:
    if (_CGROUPS / "cgroup.controllers").exists():
        return 2
    return 1 if _CGROUPS.is_dir() and any(_CGROUPS.iterdir()) else None


@cache
def _packages() -> tuple[tuple[str, str], ...]:
    # `.name` and `.version` would each parse the distribution's metadata again.
    found = (distribution.metadata for distribution in metadata.distributions())
    return tuple(
        sorted({each["Name"]: each["Version"] or "" for each in found if each["Name"]}.items())
    )
