"""Suites by name, and by the path of their directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from runner.domain import Suite
from runner.errors import UsageError
from runner.suites.loader import load_suite

PACKAGED: Mapping[str, Path] = {name: Path(__file__).parent / name for name in ("starter", "tools")}
"""Suites that are shipped with the runner, by name."""


class DirectoryCatalog:
    """Suites that are directories (`runner.ports.SuiteCatalog`)."""

    def __init__(self, known: Mapping[str, Path] = PACKAGED) -> None:
        self._known = dict(known)

    def names(self) -> list[str]:
        """Names that `load` knows without a path."""
        return sorted(self._known)

    def load(self, name: str) -> Suite:
        """The suite of that name, else the one in that directory.

        A directory that is called like a known suite is loaded as `./NAME`.
        """
        return load_suite(self._known.get(name) or self._directory(name))

    def _directory(self, name: str) -> Path:
        if name and Path(name).is_dir():
            return Path(name)
        raise UsageError(
            f"there is no suite {name!r}, by name or as a directory",
            remedy=f"known suites: {', '.join(self.names())}; or give a directory with suite.toml",
        )
