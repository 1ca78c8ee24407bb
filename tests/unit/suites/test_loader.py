"""A suite's author makes every mistake once, and reads one line that says what to do."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain import BenchmarkCategory, Difficulty, NumericCriterion
from runner.errors import InvalidSuite
from runner.suites import load_suite
from runner.suites.loader import digest_of

HEADER = 'format = 1\nname = "mine"\nversion = "1.0.0"\n'
TASK = """
[[task]]
task_id = "sum"
name = "A sum"
prompt = "Compute: 1 + 1. Answer with the number alone."
"""
CRITERION = """
[[task.criteria]]
scorer = "numeric"
expected = 2
"""


def write(directory: Path, **files: str) -> Path:
    contents = {"suite": HEADER, "reasoning": TASK + CRITERION} | files
    for name, content in contents.items():
        (directory / f"{name}.toml").write_text(content)
    return directory


def complaint(directory: Path) -> str:
    with pytest.raises(InvalidSuite) as raised:
        load_suite(directory)
    text = str(raised.value)
    assert text.isprintable(), "one line, nothing that a terminal obeys"
    assert raised.value.remedy
    assert raised.value.exit_code == 2
    return text


def test_a_small_suite(tmp_path: Path) -> None:
    suite = load_suite(write(tmp_path))
    (task,) = suite.tasks
    assert (suite.name, suite.version) == ("mine", "1.0.0")
    assert task.task_id == task.prompt.task_id == "sum"
    assert task.category is BenchmarkCategory.REASONING
    assert task.difficulty is Difficulty.BASIC
    assert task.answer_key.criteria == (NumericCriterion(expected=2),)


def test_every_field(tmp_path: Path) -> None:
    content = """
[[task]]
task_id = "all.of-it_1"
name = "Everything"
subcategory = "fields"
difficulty = "expert"
prompt = \"\"\"
Two
lines\"\"\"
tools = ["calculator", "clock"]
tool_setups.clock.now = "2026-01-05T09:00:00Z"
limits.time_seconds = 20
limits.memory_bytes = 1048576
token_budget = 1000
version = "3"
[[task.criteria]]
name = "json"
weight = 2.5
scorer = "json_subset"
extra_keys = "refused"
[task.criteria.expected]
a = [1, "x"]
[[task.criteria]]
name = "clean"
scorer = "regex"
match = "absent"
pattern = "z"
"""
    (task,) = load_suite(write(tmp_path, reasoning="", planning=content)).tasks
    assert task.category is BenchmarkCategory.PLANNING
    assert task.prompt.text == "Two\nlines"
    assert task.prompt.tools == ("calculator", "clock")
    assert task.tool_setups == {"clock": {"now": "2026-01-05T09:00:00Z"}}
    assert task.limits.given() == {"time_seconds": 20, "memory_bytes": 1048576}
    assert (task.token_budget, task.version, task.difficulty) == (1000, "3", Difficulty.EXPERT)
    assert [criterion.weight for criterion in task.answer_key.criteria] == [2.5, 1.0]


HEADERS = {
    "": "field format: Field required (add it)",
    HEADER.replace("1\n", "2\n", 1): "format: is 2, but this runner reads format 1 (upgrade",
    HEADER.replace("1\n", "0\n", 1): "field format",
    HEADER.replace('"mine"', '"a b"'): "field name",
    HEADER.replace('"1.0.0"', "1.0"): "field version",
    HEADER + 'colour = "red"': "field colour: Extra inputs are not permitted (remove it",
    HEADER + "[[task]]": "field task: Extra inputs",
    "format = ": "not TOML: Invalid value",
}


@pytest.mark.parametrize(("header", "expected"), HEADERS.items())
def test_a_bad_header(tmp_path: Path, header: str, expected: str) -> None:
    text = complaint(write(tmp_path, suite=header))
    assert "suite.toml'" in text
    assert expected in text


def criterion(scorer: str, **fields: str) -> str:
    lines = [f"{name} = {value}" for name, value in ({"scorer": f"'{scorer}'"} | fields).items()]
    return TASK + "\n".join(["[[task.criteria]]", *lines])


TASKS = {
    TASK: "field criteria: Field required (add it)",
    TASK + "criteria = []": "field criteria",
    TASK + "colour = 1" + CRITERION: "field colour: Extra inputs are not permitted (remove it",
    TASK + "difficulty = 'hard'" + CRITERION: "field difficulty: Input should be 'basic'",
    TASK + "limits.memory = 5" + CRITERION: "field limits.memory: Extra inputs",
    TASK + "limits.time_seconds = -1" + CRITERION: "field limits.time_seconds",
    TASK + "limits.time_seconds = inf" + CRITERION: "limits.time_seconds: is not a finite number",
    TASK + "token_budget = 0" + CRITERION: "field token_budget",
    TASK + "tools = 'x'" + CRITERION: "field tools",
    TASK + "tools = ['clock', 'clock']" + CRITERION: "field tools: names 'clock' 2 times",
    TASK + "tool_setups.clock.step_seconds = 1" + CRITERION: (
        "field tool_setups: sets up 'clock', which is not among the task's tools (add it to tools"
    ),
    (TASK + CRITERION).replace("Compute", " " * 100_000): "field prompt: is 1000",
    (TASK + CRITERION).replace("Compute: 1 + 1. Answer with the number alone.", " \\u200b"): (
        "field prompt: is empty"
    ),
    TASK + CRITERION + CRITERION: "field criteria: has 2 criteria named 'answer'",
    TASK + CRITERION + "tolerance = 1": "field criteria.0.tolerance: Extra inputs",
    TASK + CRITERION + "weight = 0": "field criteria.0.weight",
    TASK + CRITERION + "weight = inf": "field criteria.0.weight",
    criterion("nummeric", expected="1"): "use one of exact, numeric, choice, regex, json_subset",
    TASK + "[[task.criteria]]\nexpected = 1": "add scorer = one of exact",
    criterion("exact", expected="' '"): "criteria.0.expected: is empty",
    criterion("exact", expected="5"): "criteria.0.expected: Input should be a valid string",
    criterion("numeric", expected="nan"): "criteria.0.expected",
    criterion("numeric", expected="'x'"): "criteria.0.expected",
    criterion("numeric", expected="9007199254740992"): "more digits than a float keeps (ask for",
    criterion("numeric", expected="1", absolute_tolerance="inf"): "criteria.0.absolute_tolerance",
    criterion("numeric", expected="1", relative_tolerance="1"): "criteria.0.relative_tolerance",
    criterion("choice", expected="'E'"): "expected: is 'E', which is not among the choices",
    criterion("choice", expected="'a'", choices="['a', 'A']"): "two that differ at most in case",
    criterion("choice", expected="'a'", choices="['a']"): "needs two or more choices",
    criterion("choice", expected="'a'", choices="['a', '']"): "none empty",
    criterion("regex", pattern="'a('"): "pattern: is not RE2 syntax: missing ): a(",
    criterion("regex", pattern="'(?=a)b'"): "pattern: is not RE2 syntax",
    criterion("regex", pattern="'a*'"): "matches an empty or a nonsense answer",
    criterion("regex", pattern="'.+'"): "matches an empty or a nonsense answer",
    criterion("regex", pattern="'[0-9]'", match="'search'"): "matches an empty or a nonsense",
    criterion("regex", pattern="'x'", match="'absent'"): "only says what must be absent",
    criterion("regex", pattern="'x'", match="'prefix'"): "criteria.0.match",
    criterion("regex", pattern=f"'{'x' * 1001}'"): "is too long",
    criterion("json_subset", expected="{}"): "is met by any object",
    criterion("json_subset", expected="[{}, {a = {}}]"): "is met by any object",
    criterion("json_subset", expected="{a = [nan]}"): "a number that JSON does not have",
    criterion("json_subset", expected="2026-01-01"): "criteria.0.expected",
    criterion("json_subset"): "criteria.0.expected: Field required",
}


@pytest.mark.parametrize(("content", "expected"), TASKS.items(), ids=range(len(TASKS)))
def test_a_bad_task(tmp_path: Path, content: str, expected: str) -> None:
    text = complaint(write(tmp_path, reasoning=content))
    assert "reasoning.toml', task 'sum'" in text
    assert expected in text


FILES = {
    "task = 5": "field task: is one table (write [[task]]",
    "[task]\nname = 'x'": "field task: is one table (write [[task]]",
    "colour = 5": "field colour: is not known here (begin each task with [[task]]",
    '"a\\u001b[2J" = 5': "field a\\x1b[2J: is not known here",
    "task = [5]": "task number 1",
    "[[task]]\nname = 'x'": "task number 1, field task_id: Field required (add it)",
    "[[task]]\ntask_id = '../x'": "task '../x', field task_id",
    "[[task]]\ntask_id = 'a\nb'": "'\\n' (at line 2, column 13) (correct that line)",
    '[[task]]\ntask_id = "a\\nb"': "task 'a\\nb', field task_id",
    "x = " + "[" * 100_000: "not TOML",
}


@pytest.mark.parametrize(("content", "expected"), FILES.items(), ids=range(len(FILES)))
def test_a_bad_file(tmp_path: Path, content: str, expected: str) -> None:
    text = complaint(write(tmp_path, grounding=content))
    assert "grounding.toml'" in text
    assert expected in text


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "planning.toml").write_bytes(b'x = "\xff"')
    assert "byte 5 is not UTF-8 (save the file as UTF-8)" in complaint(tmp_path)


def test_a_directory_in_a_files_place(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "planning.toml").mkdir()
    assert "cannot be read: Is a directory" in complaint(tmp_path)


def test_an_unknown_category(tmp_path: Path) -> None:
    text = complaint(write(tmp_path, resoning=TASK + CRITERION))
    assert "resoning.toml': no such category (name it one of reasoning.toml, tool_use.toml" in text


@pytest.mark.parametrize("task_id", ["sum", "SUM"])
def test_an_id_that_is_used_twice(tmp_path: Path, task_id: str) -> None:
    twice = (TASK + CRITERION).replace('"sum"', f'"{task_id}"')
    text = complaint(write(tmp_path, planning=twice))
    assert f"planning.toml', task '{task_id}', field task_id: is already used in reasoning" in text


def test_a_suite_without_tasks(tmp_path: Path) -> None:
    assert "has no tasks (add [[task]]" in complaint(write(tmp_path, reasoning=""))


def test_a_directory_without_a_header(tmp_path: Path) -> None:
    assert "has no suite.toml" in complaint(tmp_path)


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    digest = load_suite(write(tmp_path)).digest
    (tmp_path / "README.md").write_text("not part of it")
    assert load_suite(tmp_path).digest == digest


def test_the_digest_by_hand(tmp_path: Path) -> None:
    write(tmp_path)
    parts = [(tmp_path / name).read_bytes() for name in ("reasoning.toml", "suite.toml")]
    by_hand = b"reasoning.toml\0%d\0%bsuite.toml\0%d\0%b" % (
        len(parts[0]), parts[0], len(parts[1]), parts[1],
    )  # fmt: skip
    assert load_suite(tmp_path).digest == f"sha256:{hashlib.sha256(by_hand).hexdigest()}"


contents = st.dictionaries(st.sampled_from("abc"), st.binary(max_size=6), max_size=3)


@given(contents, contents, st.randoms())
def test_the_digest_tells_contents_and_not_orders(
    one: dict[str, bytes], other: dict[str, bytes], random: st.DataObject
) -> None:
    shuffled = list(one.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert digest_of(dict(shuffled)) == digest_of(one)
    assert (digest_of(one) == digest_of(other)) == (one == other)
