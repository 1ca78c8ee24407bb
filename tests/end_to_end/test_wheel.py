"""The built wheel, installed alone outside the repository, is the whole program."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from runner.domain import BenchmarkExecution
from runner.engine import EngineClient

from .conftest import SESSION
from .shell import AGENTTRACE, Shell

pytestmark = [pytest.mark.docker, pytest.mark.slow]

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "examples/rule_based"


def python(*arguments: str, cwd: Path) -> str:
    """What a child of this interpreter prints."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel in it; what the wheel depends on is lent by this one's."""
    place = tmp_path_factory.mktemp("wheel")
    python(
        *("-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(REPOSITORY)),
        cwd=place,
    )
    [wheel] = place.glob("*.whl")
    environment = place / "environment"
    python("-m", "venv", "--without-pip", str(environment), cwd=place)
    interpreter = environment / "bin/python"
    python(
        *("-m", "pip", "--python", str(interpreter), "install", "--quiet", "--no-deps"),
        *("--no-index", "--no-compile", "--disable-pip-version-check", str(wheel)),
        cwd=place,
    )
    [packages] = environment.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text(f"{Path(click.__file__).parents[1]}\n")
    return environment


def test_the_package_is_the_wheel_s(installed: Path, tmp_path: Path) -> None:
    said = subprocess.run(
        [installed / "bin/python", "-c", "import runner, runner.assets as a; print(a.__file__)"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert Path(said.strip()).is_relative_to(installed)
    assets = Path(said.strip()).parent / "_assets"
    for name in ("config/default.toml", "config/seccomp.json", "sandbox_images/shim/shim.py"):
        assert (assets / name).read_bytes() == (REPOSITORY / name).read_bytes()


def test_it_runs_the_example_as_the_checkout_does(
    installed: Path, client: EngineClient, shell: Shell
) -> None:
    shutil.copytree(EXAMPLE, shell.directory / "example")
    with (shell.directory / "example/agent.py").open("a") as file:
        file.write(f"\n# {SESSION}\n")
    results = []
    for command in (str(installed / "bin/agenttrace"), AGENTTRACE):
        shell.command = (command,)
        assert shell("setup").code == 0
        outcome = shell("run", "example", "-l", "4", "--json", "-q")
        assert outcome.code == 0, outcome.err
        results.append(BenchmarkExecution.model_validate_json(outcome.out))
    of_the_wheel, of_the_checkout = map(comparable, results)
    assert of_the_wheel == of_the_checkout
    assert shell("suite", "list").code == 0


def comparable(execution: BenchmarkExecution) -> tuple[object, ...]:
    """What two runs of the same submission have in common."""
    return (
        execution.submission_id,
        execution.seed,
        execution.suite_digest,
        execution.image_id,
        execution.overall_score,
        execution.runner_version,
        sorted((t.task_id, t.output, t.status, t.score) for t in execution.task_executions),
    )
