"""What a recorder wrote reads back as it was, whatever it was; what cannot be is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import runner
from runner import ExecutionRecorder
from runner.errors import StorageFailed, UsageError

AT = datetime(2026, 11, 22, tzinfo=UTC)
TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=10)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def filled() -> ExecutionRecorder:
    recorder = ExecutionRecorder()
    recorder.record_agent_invocation("echo", {"text": "6*7"}, "42", seconds=0.5, at=AT)
    recorder.record_tool_call("calculator", {"expression": "6*7"}, 42)
    recorder.record_model_call(
        "m", [{"role": "user"}], {"text": "42"}, tokens_input=3, cost_usd=0.1
    )
    recorder.record_tool_call("calculator", {}, error="no expression", details={"try": 2})
    return recorder


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    recorder = filled()
    recorder.save_to_file(tmp_path / "recording.json")
    loaded = ExecutionRecorder.load_from_file(str(tmp_path / "recording.json"))
    assert loaded.entries == recorder.entries
    assert [entry.kind for entry in loaded.entries] == ["agent", "tool", "model", "tool"]
    assert loaded.entries[0].at == AT
    loaded.record_tool_call("later", {})
    assert len(loaded.entries) == 5
    assert json.loads((tmp_path / "recording.json").read_text())["version"] == 1


@example(arguments=None, result={"\ud800": "\ud800"}, name="\ud800")
@given(arguments=JSON, result=JSON, name=TEXT)
def test_whatever_is_recorded_comes_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, arguments: Any, result: Any, name: str
) -> None:
    path = tmp_path_factory.mktemp("recorder") / "recording.json"
    recorder = ExecutionRecorder()
    recorder.record_tool_call(name, arguments, result, at=AT)
    recorder.record_agent_invocation(name, arguments, result, at=AT)
    recorder.save_to_file(path)
    assert ExecutionRecorder.load_from_file(path).entries == recorder.entries
    [call, _] = recorder.entries
    assert (call.arguments, call.result) == (arguments, result)  # type: ignore[union-attr]


def test_what_was_recorded_does_not_change_with_what_it_was_made_of() -> None:
    arguments = {"a": [1]}
    recorder = ExecutionRecorder()
    recorder.record_tool_call("f", arguments)
    arguments["a"].append(2)
    assert recorder.entries[0].arguments == {"a": [1]}  # type: ignore[union-attr]


@pytest.mark.parametrize("wrong", [float("nan"), object(), {1, 2}, b"bytes", {"a": float("inf")}])
def test_what_json_cannot_hold_is_refused(wrong: Any) -> None:
    recorder = ExecutionRecorder()
    with pytest.raises(UsageError, match="result cannot be recorded"):
        recorder.record_tool_call("f", {}, wrong)
    assert recorder.entries == ()


def test_fields_that_there_are_not_are_refused() -> None:
    with pytest.raises(UsageError, match="tokens"):
        ExecutionRecorder().record_tool_call("f", {}, tokens=3)
    with pytest.raises(UsageError, match="at"):
        ExecutionRecorder().record_tool_call("f", {}, at=datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not JSON"),
        ("[]", "version None"),
        ('{"version": 2, "entries": []}', "version 2"),
        ('{"version": 1, "entries": [{"kind": "agent"}]}', r"damaged at entries\.0"),
        ('{"version": 1, "entries": [{"kind": "other"}]}', "damaged"),
    ],
)
def test_a_file_that_is_none_of_ours(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "recording.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=complaint) as raised:
        ExecutionRecorder.load_from_file(path)
    assert raised.value.remedy
    with pytest.raises(UsageError, match="cannot read"):
        ExecutionRecorder.load_from_file(tmp_path / "none.json")


def test_a_disk_that_refuses_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "recording.json"
    filled().save_to_file(path)
    before = path.read_bytes()

    def refuse(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(StorageFailed, match="no space left"):
        ExecutionRecorder().save_to_file(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["recording.json"]


def test_the_names_are_public() -> None:
    for name in ("ExecutionRecorder", "ReproducibilityVerifier", "Tolerances", "Tolerance"):
        assert name in runner.__all__
        assert getattr(runner, name).__name__ == name
