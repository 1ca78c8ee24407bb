"""Which attempts of a run count as made: what a resumed run rests on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import GeneratorType

import pytest

from runner.domain import FailureReason
from runner.records import RunDirectory, unknown_attempts
from runner.records.attempts import attempts_at, final_executions
from tests.unit.records.nouns import RUN_ID, execution, plan, reply, task


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[RunDirectory]:
    directory = RunDirectory(tmp_path, RUN_ID)
    directory.begin(plan(RUN_ID, task("a"), task("b")))
    yield directory
    directory.close()


def kept(
    directory: RunDirectory, task_id: str, repeat: int, attempt: int, **fields: object
) -> Path:
    numbers = {"task_id": task_id, "repeat": repeat, "attempt": attempt}
    return directory.keep(execution(**numbers, **fields), reply(), directory.staging())


def test_the_last_attempt_decides(directory: RunDirectory) -> None:
    for attempt in (1, 2, 10):  # by number, not by name
        kept(directory, "a", 1, attempt, output=str(attempt))
    kept(directory, "a", 2, 1, failure_reason=FailureReason.INTERNAL_ERROR)
    kept(directory, "b", 1, 1, failure_reason=FailureReason.INTERNAL_ERROR)
    kept(directory, "b", 1, 2, failure_reason=FailureReason.AGENT_ERROR)
    finals = {(each.task_id, each.repeat): each.attempt for each in directory.finals()}
    assert finals == {("a", 1): 10, ("a", 2): 1, ("b", 1): 2}
    assert directory.judged() == {("a", 1), ("b", 1)}


@pytest.mark.parametrize(
    "damaged", [b"", b'{"run_id": ', b"null", b"\0" * 100, b"\xff", b'{"failure_reason": null}']
)
def test_a_damaged_record_counts_as_not_made(directory: RunDirectory, damaged: bytes) -> None:
    kept(directory, "a", 1, 1)
    (kept(directory, "a", 1, 2) / "execution.json").write_bytes(damaged)
    (kept(directory, "b", 1, 1) / "execution.json").write_bytes(damaged)
    assert [(each.task_id, each.attempt) for each in directory.finals()] == [("a", 1)]
    assert directory.judged() == {("a", 1)}
    assert directory.begin_attempt("a", 1) == 3  # what is there is never overwritten


def test_a_record_that_is_a_part_of_one_counts_as_not_made(directory: RunDirectory) -> None:
    """Whatever `judged` counts has to be among `finals`, or the run could never be finished."""
    record = kept(directory, "a", 1, 1) / "execution.json"
    whole = record.read_text()
    record.write_text(whole.replace('"memory_peak_mb"', '"memory_peek_mb"'))
    assert record.read_text() != whole
    assert directory.judged() == frozenset()
    assert directory.finals() == []


def test_a_record_that_is_missing_or_no_file(directory: RunDirectory) -> None:
    (kept(directory, "a", 1, 1) / "execution.json").unlink()
    record = kept(directory, "b", 1, 1) / "execution.json"
    record.unlink()
    record.mkdir()
    assert directory.finals() == []


def test_what_is_no_attempt_is_passed_over(directory: RunDirectory) -> None:
    place = kept(directory, "a", 1, 1).parent
    for name in ("notes", "1", "1-", "1-1-1", "x-1"):
        (place / name).mkdir()
    assert list(attempts_at(directory.path, "a")) == [(1, 1)]
    assert list(attempts_at(directory.path, "never-run")) == []
    assert len(directory.finals()) == 1


def test_executions_are_read_one_at_a_time(directory: RunDirectory) -> None:
    assert isinstance(final_executions(directory.path), GeneratorType)


def test_known_attempts_are_not_read(directory: RunDirectory) -> None:
    kept(directory, "a", 1, 1)
    kept(directory, "a", 1, 2)
    kept(directory, "b", 1, 1)
    (directory.path / "tasks/a/1-1/execution.json").write_text("damaged")
    unknown = list(unknown_attempts(directory.path, {("a", 1, 1), ("b", 1, 1)}))
    assert [(each.task_id, each.repeat, each.attempt, each.note) for each in unknown] == [
        ("a", 1, 2, "")
    ]
