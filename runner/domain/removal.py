"""What cleaning up removes, and what it leaves alone although it looked at it."""

from __future__ import annotations

from enum import StrEnum

from runner.domain.base import Noun

UNIT_STEP = 1024


class RemovalKind(StrEnum):
    """What sort of thing goes."""

    CONTAINER = "container"
    IMAGE = "image"
    VOLUME = "volume"
    RUN = "run"
    STAGING = "staging"
    SUBMISSION = "submission"
    FILE = "file"


class Removal(Noun):
    """One thing that was, or would be, removed."""

    kind: RemovalKind
    name: str
    """For a person: `image agenttrace/submission:...`, a path; may hold what a submitter chose."""
    why: str
    """One line, the same for all that go for the same reason."""
    bytes_freed: int | None = None
    """On the disk, by its going after those listed before it; None: not measured."""


class Kept(Noun):
    """One thing that was, or would be, spared."""

    name: str
    why: str


class Cleaned(Noun):
    """What one step of cleaning up did, or would do."""

    removed: tuple[Removal, ...] = ()
    kept: tuple[Kept, ...] = ()

    def __add__(self, other: Cleaned) -> Cleaned:
        """Both, in that order."""
        return Cleaned(removed=self.removed + other.removed, kept=self.kept + other.kept)


def size_text(number: int) -> str:
    """`1.2 GiB`; whole bytes below 1 KiB."""
    value, unit = float(number), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < UNIT_STEP:
            break
        value, unit = value / UNIT_STEP, larger
    return f"{number} B" if unit == "B" else f"{value:.1f} {unit}"
