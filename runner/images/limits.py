"""What building one submission's image may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GIB = 1024**3
MIB = 1024**2


@dataclass(frozen=True, kw_only=True)
class BuildLimits:
    """Bounds of one build; the operator's word, never the submission's."""

    memory_bytes: int = 2 * GIB
    """Of each RUN step, without swap."""
    cpus: float = 2.0
    seconds: float = 600.0
    """Wall clock of the whole build, or of loading an archive."""
    network: Literal["none", "bridge"] = "none"
    """What RUN steps may reach."""
    image_bytes: int = 4 * GIB
    """Largest finished image; also the most that all steps together may write."""
    context_bytes: int = 256 * MIB
    """Largest build context, all files together."""
    context_files: int = 20_000
    pull_seconds: float = 300.0
    """How long pulling one image may take."""
    allowed_bases: tuple[str, ...] = ()
    """Shell patterns of the images that a Dockerfile may start FROM; empty: any."""
