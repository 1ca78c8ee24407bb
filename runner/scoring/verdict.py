"""What a scorer says of one criterion."""

from __future__ import annotations

from typing import NamedTuple


class Verdict(NamedTuple):
    """Points for one criterion, and why, in our own fixed words.

    `detail` quotes neither the key (it may be shown to the agent's author) nor the answer (its
    bytes are hostile).
    """

    points: float
    """0 to 1."""
    detail: str


def hit(detail: str) -> Verdict:
    """Full points."""
    return Verdict(1.0, detail)


def miss(detail: str) -> Verdict:
    """No points."""
    return Verdict(0.0, detail)
