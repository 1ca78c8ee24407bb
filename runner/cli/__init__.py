"""The command line: translators, each of options in, one call, exit code out."""

from __future__ import annotations

from runner.cli.program import main

__all__ = ["main"]
