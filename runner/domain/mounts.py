"""Where an agent may write, and how much fits there."""

from __future__ import annotations

from runner.domain.limits import Limits

OUTPUT_DIRECTORY = "/output"
"""What the agent leaves here is brought back as artifacts."""
SCRATCH_DIRECTORY = "/tmp"  # noqa: S108 - a path in the container, a tmpfs of its own
SHIM_DIRECTORY = "/opt/agenttrace"
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - likewise


def writable_mounts(limits: Limits, volumes: tuple[str, ...]) -> dict[str, int]:
    """Size in bytes of each tmpfs, by path; together at most `limits.disk_bytes`.

    A quarter is for the output directory, a quarter is shared by what the image declares as
    VOLUME (if anything), the rest is scratch.
    """
    declared = [v for v in volumes if v not in (OUTPUT_DIRECTORY, SCRATCH_DIRECTORY)]
    quarter = limits.disk_bytes // 4
    sizes = {path: quarter // len(declared) for path in declared}
    scratch = limits.disk_bytes - quarter - (quarter if declared else 0)
    return sizes | {OUTPUT_DIRECTORY: quarter, SCRATCH_DIRECTORY: scratch}
