"""The option of the test suite itself that keeps a run without an engine from being green."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parent / "conftest.py"
PASSING = "def test_engine(): pass\n"


@pytest.mark.parametrize(
    ("marker", "body", "arguments", "code", "said"),
    [
        ("docker", PASSING, ["--require-engine"], 0, "1 ran"),
        ("adversarial", PASSING, ["--require-engine"], 0, "1 ran"),
        ("slow", PASSING, ["--require-engine"], 1, "no test that drives a real engine ran"),
        ("slow", PASSING, [], 0, ""),
        ("docker", PASSING, ["--require-engine", "-m", "not docker"], 1, "no test that drives"),
        (
            "docker",
            "def test_engine(): pytest.skip('no engine here')\n",
            ["--require-engine"],
            1,
            "1 engine tests were skipped, first test_it.py::test_engine",
        ),
        ("docker", "def test_engine(): assert False\n", ["--require-engine"], 1, "1 ran"),
        (
            "docker",
            "@pytest.fixture\ndef engine(): pytest.skip()\n" + "def test_engine(engine): pass\n",
            ["--require-engine"],
            1,
            "were skipped",
        ),
    ],
)
def test_require_engine(
    tmp_path: Path, marker: str, body: str, arguments: list[str], code: int, said: str
) -> None:
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  docker\n  adversarial\n  slow\n")
    (tmp_path / "test_it.py").write_text(
        f"import pytest\npytestmark = pytest.mark.{marker}\n{body}def test_other(): pass\n"
        if marker == "slow"
        else f"import pytest\n{body}test_engine = pytest.mark.{marker}(test_engine)\n"
        "def test_other(): pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert said in done.stdout
    assert done.returncode == code, done.stdout
