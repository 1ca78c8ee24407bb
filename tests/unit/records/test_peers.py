"""The programs that our exports are for read them: from PyPI, pinned, in an environment of their
own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.records.exports import Format, export_run
from runner.records.exports.chosen import Choice
from tests.unit.records.calls import recorded_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HERE = Path(__file__).with_name("peers")
REQUIREMENTS = Path(__file__).parents[3] / "requirements"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has inspect_ai and the trajectory models of harbor."""
    place = tmp_path_factory.mktemp("peers")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(place / "bin/python"), "install", "--quiet"]
    pip += ["--disable-pip-version-check", "--no-compile", "--require-hashes"]
    subprocess.run([*pip, "-r", REQUIREMENTS / "peers.txt"], check=True)
    alone = ["--no-deps", "--ignore-requires-python", "-r", REQUIREMENTS / "peers-alone.txt"]
    subprocess.run([*pip, *alone], check=True)
    return place / "bin/python"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_run(tmp_path_factory.mktemp("runs"))


def output_of(python: Path, *command: str | Path) -> Any:
    done = subprocess.run([python, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def write(run: Path, to: Format, directory: Path) -> list[Path]:
    paths = []
    for each in export_run(run, to, Choice()):
        path = directory / each.name
        path.write_bytes(each.data)
        paths.append(path)
    return paths


def test_inspect_reads_the_log(python: Path, run: Path, tmp_path: Path) -> None:
    [path] = write(run, Format.INSPECT, tmp_path)
    log = output_of(python, HERE / "read_exports.py", "inspect", path)
    assert (log["version"], log["status"], log["header_task"]) == (2, "success", "starter")
    assert log["same_sample"]
    assert log["usage"]["openai/gpt-4o-mini"]["input_tokens"] == 36
    samples = {(each["id"], each["epoch"]): each for each in log["samples"]}
    first = samples["calling", 1]
    assert first["messages"][0] == ["user", "What is 6*7?"]
    assert first["messages"][2] == ["tool", "42"]
    assert first["events"] == ["model", "tool", "model"]
    assert (first["completion"], first["score"]) == ("42", 0.75)
    assert samples["slow", 1]["limit"] == "time"
    assert samples["crashed", 1]["error"] == "agent_error: exit status 1"


def test_harbor_takes_the_trajectories(python: Path, run: Path, tmp_path: Path) -> None:
    write(run, Format.ATIF, tmp_path)
    read = output_of(python, HERE / "read_exports.py", "atif", tmp_path)
    assert len(read) == 7
    assert {name: each["errors"] for name, each in read.items() if not each["valid"]} == {}
    assert read["calling.1-2.atif.json"]["steps"] == [
        ["user", None],
        ["agent", 1],
        ["agent", 0],
        ["agent", 1],
        ["agent", 0],
    ]


@pytest.mark.parametrize("name", ["inspect", "atif"])
def test_the_schemas_of_the_fast_tests_are_theirs(python: Path, name: str) -> None:
    """Else: make peers/NAME.schema.json anew with peers/schemas.py."""
    theirs = output_of(python, HERE / "schemas.py", name)
    assert json.loads((HERE / f"{name}.schema.json").read_text()) == theirs
