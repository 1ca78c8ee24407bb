"""Finds the files that ship beside the code: `config/` and `sandbox_images/`."""

from __future__ import annotations

from pathlib import Path

from runner.errors import InfrastructureError

_PACKAGE = Path(__file__).resolve().parent
_PLACES = (_PACKAGE / "_assets", _PACKAGE.parent)
"""In an installed wheel, and in a checkout."""


def asset(name: str) -> Path:
    """The file or directory `name` ("config/seccomp.json"); raises InfrastructureError."""
    for place in _PLACES:
        if (place / name).exists():
            return place / name
    raise InfrastructureError(
        f"{name} is missing from this installation", remedy="reinstall agenttrace-runner"
    )
