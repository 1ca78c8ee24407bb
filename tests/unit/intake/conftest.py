"""Submissions of every kind, and limits that are soon reached."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.intake import BundleLimits

MANIFEST = b"""agent_name = "echo"
agent_version = "1.0.0"
[agent_endpoint]
endpoint_type = "local"
module_path = "agent"
function_name = "answer"
"""
CODE = b"def answer(prompt, config):\n    return prompt\n"

SMALL = BundleLimits(max_bytes=100_000, max_files=20, max_path_bytes=200, max_depth=5)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory with a manifest and an agent."""
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "submission.toml").write_bytes(MANIFEST)
    (directory / "agent.py").write_bytes(CODE)
    return directory


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    """Where what is received goes."""
    return tmp_path / "bundles"


@pytest.fixture
def nothing_left(bundles: Path) -> Callable[[], bool]:
    """Whether nothing is in there, hidden or not."""
    return lambda: not bundles.exists() or not list(bundles.iterdir())
