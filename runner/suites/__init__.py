"""Where tasks come from: directories of TOML files, read once into validated nouns."""

from __future__ import annotations

from runner.suites.catalog import DirectoryCatalog
from runner.suites.loader import load_suite

__all__ = ["DirectoryCatalog", "load_suite"]
