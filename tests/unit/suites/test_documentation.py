"""docs/suites.md says what is so."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from runner.domain import BenchmarkCategory
from runner.errors import InvalidSuite
from runner.suites import DirectoryCatalog, load_suite

PAGE = (Path(__file__).parents[3] / "docs" / "suites.md").read_text()


def write_example(directory: Path) -> Path:
    for name, content in re.findall(r"```toml\n# (\w+\.toml)\n(.*?)```", PAGE, re.DOTALL):
        (directory / name).write_text(content)
    return directory


def test_the_example_is_a_suite(tmp_path: Path) -> None:
    suite = load_suite(write_example(tmp_path))
    assert [task.task_id for task in suite.tasks] == ["planning-route-01", "planning-choice-01"]


def test_the_example_of_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    directory = Path("my-suite")
    directory.mkdir()
    planning = write_example(directory) / "planning.toml"
    planning.write_text(planning.read_text().replace('expected = "C"', 'expected = "E"'))
    with pytest.raises(InvalidSuite) as raised:
        load_suite(directory)
    assert f"```\n{raised.value}\n```" in PAGE


def test_the_number_of_starter_tasks() -> None:
    tasks = DirectoryCatalog().load("starter").tasks
    counts = Counter(task.category for task in tasks)
    listed = ", ".join(f"{category} {counts[category]}" for category in BenchmarkCategory)
    assert f"{len(tasks)} tasks: {listed}." in PAGE


def test_the_regular_tasks_exist_and_are_a_third() -> None:
    tasks = DirectoryCatalog().load("starter").tasks
    rows = re.findall(r"^\| .* \| ([a-z_]+-[a-z]+-\d\d.*) \|$", PAGE, re.MULTILINE)
    named = [name for row in rows for name in expanded(row)]
    assert set(named) <= {task.task_id for task in tasks}
    assert 3 * len(named) >= len(tasks)


def expanded(row: str) -> list[str]:
    """`a-01, -02` as `a-01` and `a-02`."""
    names: list[str] = []
    for part in row.split(", "):
        names.append(names[-1][:-3] + part if part.startswith("-") else part)
    return names


@pytest.mark.parametrize("scorer", ["exact", "numeric", "choice", "regex", "json_subset"])
def test_every_scorer_is_described(scorer: str) -> None:
    assert f"| `{scorer}` |" in PAGE
