"""What the command line asks for, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from runner.domain import BenchmarkCategory, LimitOverrides
from runner.domain.removal import Kept, Removal


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What one run is asked to do; None: as the settings or the submission say."""

    target: str | None = None
    """A directory or `path/agent.py:function`; else `image`."""
    image: str | None = None
    interface: str | None = None
    command: tuple[str, ...] = ()
    port: int | None = None
    suite: str | None = None
    categories: tuple[BenchmarkCategory, ...] = ()
    tasks: tuple[str, ...] = ()
    """Shell patterns of task ids."""
    limit: int | None = None
    parallelism: int | None = None
    repeats: int | None = None
    seed: int | None = None
    overrides: LimitOverrides = field(default_factory=LimitOverrides)
    token_budget: int | None = None
    cost_budget_usd: float | None = None
    output: Path | None = None


@dataclass(frozen=True, kw_only=True)
class SetUpReport:
    """What `set_up` found or made."""

    engine: str
    base_image: str
    shim_image: str
    shim_volume: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class CleanupReport:
    """What was, or would be, removed."""

    removals: tuple[Removal, ...] = ()
    """In the order in which they went, or would go."""
    spared: tuple[Kept, ...] = ()

    @property
    def removed(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(removal.name for removal in self.removals)

    @property
    def kept(self) -> tuple[str, ...]:
        """What was spared, and why, a line each."""
        return tuple(f"{kept.name}: {kept.why}" for kept in self.spared)

    @property
    def bytes_freed(self) -> int:
        """On the disk, as far as it was measured."""
        return sum(removal.bytes_freed or 0 for removal in self.removals)
