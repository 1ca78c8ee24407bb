"""What a run has spent is on disk, line by line, whatever ends its runner."""

from __future__ import annotations

import errno
import json
import os
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.cost import SpendingBy
from runner.domain.gateway import Spending
from runner.errors import StorageFailed
from runner.records import RunDirectory
from runner.records.spending import (
    NOBODY,
    SpendingJournal,
    load_spending,
    spending_report,
    totals,
)
from tests.unit.records.nouns import plan


def spending(**changes: Any) -> Spending:
    fields: dict[str, Any] = {
        "at": "2026-03-14T09:26:00+00:00",
        "task_id": "reasoning-1",
        "repeat": 1,
        "upstream": "openai",
        "model": "small",
        "tokens_input": 100,
        "tokens_output": 20,
        "cost_usd": 0.25,
    }
    return Spending(**(fields | changes))


def written(path: Path, *spendings: Spending) -> Path:
    journal = SpendingJournal(path)
    for each in spendings:
        journal.append(each)
    journal.close()
    return path


def run_of(root: Path, run_id: str, *spendings: Spending, submitted_by: str = "team-a") -> Path:
    made = plan(run_id)
    submission = made.submission.model_copy(update={"submitted_by": submitted_by})
    directory = RunDirectory(root, run_id)
    path = directory.begin(made.model_copy(update={"submission": submission}))
    directory.close()
    written(path / "spending.jsonl", *spendings)
    return path


# -- the journal ---------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path: Path) -> None:
    every = [spending(), spending(cost_usd=None, model="\u202e\x1b[31m\n"), spending(cached=True)]
    path = written(tmp_path / "spending.jsonl", *every[:2])
    written(path, every[2])  # a run that is gone on with
    lines = load_spending(path)
    assert list(lines) == every
    assert lines.damaged == 0
    assert path.read_bytes().count(b"\n") == 3


def test_a_file_that_nobody_wrote_is_empty(tmp_path: Path) -> None:
    assert list(load_spending(tmp_path / "spending.jsonl")) == []
    SpendingJournal(tmp_path / "spending.jsonl").close()
    assert not (tmp_path / "spending.jsonl").exists()  # the first call makes it


def test_a_torn_last_line_is_ignored_and_ended_by_the_next_journal(tmp_path: Path) -> None:
    path = written(tmp_path / "spending.jsonl", spending(task_id="first"))
    with path.open("ab") as file:
        file.write(b'{"at": "2026-')
    lines = load_spending(path)
    assert [each.task_id for each in lines] == ["first"]
    assert lines.damaged == 0  # it may be being written at this moment
    written(path, spending(task_id="second"))
    lines = load_spending(path)
    assert [each.task_id for each in lines] == ["first", "second"]
    assert lines.damaged == 1


@pytest.mark.parametrize(
    "damage",
    [
        b"\xff\x00",
        b"{}",
        b"null",
        b"[1]",
        b"x" * 200_000,
        spending(tokens_input=-5).model_dump_json().encode(),
        spending(cost_usd=-1.0).model_dump_json().encode(),
        spending(at="yesterday").model_dump_json().encode(),
        spending().model_dump_json().replace("0.25", "1e999").encode(),
    ],
)
def test_a_damaged_line_is_skipped_and_counted(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "spending.jsonl"
    whole = spending().model_dump_json().encode()
    path.write_bytes(whole + b"\n" + damage + b"\n" + whole + b"\n\n")
    lines = load_spending(path)
    assert list(lines) == [spending(), spending()]
    assert lines.damaged >= 1


def test_what_cannot_be_written_is_a_failure_of_storage(tmp_path: Path) -> None:
    (tmp_path / "spending.jsonl").mkdir()
    with pytest.raises(StorageFailed, match=r"spending\.jsonl"):
        SpendingJournal(tmp_path / "spending.jsonl").append(spending())


def test_a_disk_that_takes_half_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "spending.jsonl"
    journal = SpendingJournal(path)
    write = os.write
    monkeypatch.setattr("os.write", lambda file, data: write(file, data[:10]))
    with pytest.raises(StorageFailed, match="the disk is full"):
        journal.append(spending())
    monkeypatch.setattr("os.write", write)
    journal.append(spending(task_id="after"))
    journal.close()
    assert [each.task_id for each in load_spending(path)] == ["after"]


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    journal = SpendingJournal(tmp_path / "spending.jsonl")
    monkeypatch.setattr("os.write", full)
    with pytest.raises(StorageFailed, match="no space left"):
        journal.append(spending())
    journal.close()


# -- sums ----------------------------------------------------------------------------------------


def test_an_unknown_cost_is_a_call_and_not_zero() -> None:
    found = totals([spending(cost_usd=12.0), spending(cost_usd=None), spending(cost_usd=0.34)])
    assert (found.calls, found.unknown_cost_calls) == (3, 1)
    assert found.known_cost_usd == pytest.approx(12.34)
    assert totals([spending(cost_usd=None)]).known_cost_usd is None
    assert totals([]).known_cost_usd == 0.0


def test_a_call_that_a_cache_answered_cost_nothing() -> None:
    found = totals([spending(cached=True), spending(cached=True, cost_usd=None), spending()])
    assert (found.calls, found.cached_calls, found.unknown_cost_calls) == (3, 2, 0)
    assert found.known_cost_usd == 0.25
    assert (found.tokens_input, found.tokens_output, found.tokens_cached) == (300, 60, 240)


spendings = st.lists(
    st.builds(
        spending,
        tokens_input=st.integers(0, 10**9),
        tokens_output=st.integers(0, 10**9),
        cost_usd=st.none() | st.floats(0, 1e6),
        cached=st.booleans(),
    ),
    max_size=20,
)


@given(some=spendings, more=spendings)
def test_sums_of_parts_are_the_sum_of_the_whole(some: list[Spending], more: list[Spending]) -> None:
    parts, whole = totals(some) + totals(more), totals(some + more)
    assert parts.cost_usd == pytest.approx(whole.cost_usd)
    assert parts.model_copy(update={"cost_usd": 0.0}) == whole.model_copy(update={"cost_usd": 0.0})


def test_cents_are_not_lost_on_the_way() -> None:
    assert totals([spending(cost_usd=0.1)] * 10).cost_usd == 1.0


# -- all runs ------------------------------------------------------------------------------------


def test_by_model(tmp_path: Path) -> None:
    run_of(tmp_path, "r1", spending(), spending(model="large", cost_usd=None))
    run_of(tmp_path, "r2", spending())
    run_of(tmp_path, "r3")
    report = spending_report(tmp_path, SpendingBy.MODEL)
    lines = {g.name: (g.runs, g.totals.calls, g.totals.known_cost_usd) for g in report.groups}
    assert lines == {"openai/large": (1, 1, None), "openai/small": (2, 2, 0.5)}
    assert (report.runs, report.total.calls, report.total.unknown_cost_calls) == (2, 3, 1)


def test_by_submitter(tmp_path: Path) -> None:
    run_of(tmp_path, "r1", spending(), submitted_by="team-a")
    run_of(tmp_path, "r2", spending(), submitted_by="team-a")
    run_of(tmp_path, "r3", spending(), submitted_by="")
    (run_of(tmp_path, "r4", spending()) / "submission.json").write_text("damaged")
    report = spending_report(tmp_path, SpendingBy.SUBMITTER)
    assert {g.name: g.runs for g in report.groups} == {"team-a": 2, NOBODY: 2}


def test_by_run_and_by_day_and_since(tmp_path: Path) -> None:
    run_of(tmp_path, "r1", spending(at="2026-03-14T23:30:00-02:00"))  # the 15th in UTC
    run_of(tmp_path, "r2", spending(at="2026-03-14T23:59:59Z"), spending(at="2026-03-16T00:00"))
    by_run = spending_report(tmp_path, SpendingBy.RUN)
    assert {g.name: g.totals.calls for g in by_run.groups} == {"r1": 1, "r2": 2}
    by_day = spending_report(tmp_path, SpendingBy.DAY)
    assert [g.name for g in by_day.groups] == ["2026-03-14", "2026-03-15", "2026-03-16"]
    later = spending_report(tmp_path, SpendingBy.DAY, date(2026, 3, 15))
    assert [g.name for g in later.groups] == ["2026-03-15", "2026-03-16"]
    assert later.runs == 2


def test_attempts_that_were_not_kept_have_cost_too(tmp_path: Path) -> None:
    run = run_of(tmp_path, "r1", spending(task_id="given-up"))
    assert not list((run / "tasks").iterdir())
    assert spending_report(tmp_path, SpendingBy.RUN).total.known_cost_usd == 0.25


def test_damaged_lines_are_told(tmp_path: Path) -> None:
    run = run_of(tmp_path, "r1", spending())
    with (run / "spending.jsonl").open("ab") as file:
        file.write(b"damaged\n")
    report = spending_report(tmp_path, SpendingBy.MODEL)
    assert (report.total.calls, report.damaged_lines) == (1, 1)


def test_no_runs_at_all(tmp_path: Path) -> None:
    report = spending_report(tmp_path / "nowhere", SpendingBy.MODEL)
    assert (report.groups, report.total.calls) == ((), 0)


def test_a_line_has_the_fields_of_the_noun(tmp_path: Path) -> None:
    path = written(tmp_path / "spending.jsonl", spending())
    assert set(json.loads(path.read_text())) == set(Spending.model_fields)
