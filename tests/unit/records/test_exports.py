"""Exports have the form that their readers want; the readers themselves are in test_peers.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from runner.errors import StorageFailed, UsageError
from runner.records.exports import Format, export_run
from runner.records.exports.chosen import Choice
from tests.unit.records.calls import KEY, recorded_run

PEERS = Path(__file__).with_name("peers")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_run(tmp_path_factory.mktemp("runs"))


def exported(run: Path, to: Format, **chosen: Any) -> dict[str, Any]:
    files = export_run(run, to, Choice(**chosen))
    return {each.name: json.loads(each.data) for each in files}


def validator(name: str) -> Draft202012Validator:
    """By the schema that the program that owns the format gave (peers/schemas.py)."""
    return Draft202012Validator(json.loads((PEERS / f"{name}.schema.json").read_text()))


# -- Inspect -------------------------------------------------------------------------------------


def test_an_inspect_log_has_the_form_of_version_2(run: Path) -> None:
    [log] = exported(run, Format.INSPECT).values()
    validator("inspect").validate(log)
    assert log["version"] == 2
    assert log["status"] == "success"
    assert log["eval"]["model"] == "openai/gpt-4o-mini"
    # 2 of "calling" and 1 of "hostile" were counted; one of their costs is unknown.
    assert log["stats"]["model_usage"] == {
        "openai/gpt-4o-mini": {"input_tokens": 36, "output_tokens": 9, "total_tokens": 45}
    }


def test_the_schema_would_find_a_wrong_name(run: Path) -> None:
    [log] = exported(run, Format.INSPECT).values()
    log["samples"][0]["mesages"] = []
    assert not validator("inspect").is_valid(log)


def samples(run: Path) -> dict[tuple[str, int], dict[str, Any]]:
    [log] = exported(run, Format.INSPECT).values()
    return {(each["id"], each["epoch"]): each for each in log["samples"]}


def test_a_sample_is_the_last_attempt_with_its_conversation(run: Path) -> None:
    sample = samples(run)["calling", 1]
    assert sample["metadata"]["attempt"] == 2
    assert [each["role"] for each in sample["messages"]] == [
        *("user", "assistant", "tool", "assistant", "assistant")
    ]
    assert sample["messages"][1]["tool_calls"][0]["function"] == "calculator"
    assert [each["content"] for each in sample["messages"][3:]] == ["It is 42.", "42"]
    assert [each["event"] for each in sample["events"]] == ["model", "tool", "model"]
    assert sample["events"][1]["result"] == "42"
    assert sample["scores"]["agenttrace"]["value"] == 0.75


def test_limits_and_errors_are_told_apart(run: Path) -> None:
    found = samples(run)
    assert found["slow", 1]["limit"] == {"type": "time", "limit": 300.0, "reason": "agent_timeout"}
    assert "error" not in found["slow", 1]
    assert found["crashed", 1]["error"]["message"] == "agent_error: exit status 1"
    assert found["stopped", 1]["error"]["message"] == "cancelled"
    assert "scores" not in found["stopped", 1]
    assert found["quiet", 1]["messages"][-1]["content"] == "42"


# -- ATIF ----------------------------------------------------------------------------------------


def test_trajectories_have_the_form_of_version_1_8(run: Path) -> None:
    trajectories = exported(run, Format.ATIF)
    assert len(trajectories) == 7, "one for each task and repeat"
    for name, each in trajectories.items():
        validator("atif").validate(each)
        assert each["schema_version"] == "ATIF-v1.8"
        assert [step["step_id"] for step in each["steps"]] == [*range(1, len(each["steps"]) + 1)]
        assert each["final_metrics"]["total_steps"] == len(each["steps"]), name
        for step in each["steps"]:
            own = {call["tool_call_id"] for call in step.get("tool_calls", ())}
            results = step.get("observation", {"results": ()})["results"]
            assert {result["source_call_id"] for result in results} <= own
            assert step["source"] == "agent" or "tool_calls" not in step


def test_a_trajectory_tells_the_story_of_an_attempt(run: Path) -> None:
    [found] = exported(run, Format.ATIF, task_id="calling", repeat=1).values()
    user, asking, tool, telling, answer = found["steps"]
    assert (user["source"], user["message"]) == ("user", "What is it?")
    assert asking["tool_calls"][0]["arguments"] == {"expression": "6*7"}
    assert asking["observation"]["results"][0]["content"] == "42"
    assert asking["metrics"] == {
        "prompt_tokens": 12,
        "completion_tokens": 3,
        "cached_tokens": 4,
        "cost_usd": 0.000125,
        "extra": {"token_source": "provider"},
    }
    assert (tool["llm_call_count"], tool["tool_calls"][0]["function_name"]) == (0, "calculator")
    assert telling["message"] == "It is 42."
    assert telling["model_name"] == "openai/gpt-4o-mini"
    assert (answer["message"], answer["llm_call_count"]) == ("42", 0)
    assert found["final_metrics"]["total_prompt_tokens"] == 24
    assert found["final_metrics"]["total_cost_usd"] == 0.00025
    assert found["agent"]["name"] == "echo"
    assert found["extra"]["score"]["normalized"] == 75.0


# -- all -----------------------------------------------------------------------------------------


def test_otlp_is_a_line_for_each_attempt(run: Path) -> None:
    [file] = export_run(run, Format.OTLP, Choice())
    lines = file.data.splitlines()
    assert len(lines) == 7
    assert all(list(json.loads(line)) == ["resourceSpans"] for line in lines)
    [one] = export_run(run, Format.OTLP, Choice(task_id="calling", repeat=1, attempt=1))
    assert len(one.data.splitlines()) == 1


@pytest.mark.parametrize("to", Format)
def test_no_key_and_no_control_character_gets_out(run: Path, to: Format) -> None:
    for file in export_run(run, to, Choice()):
        assert file.data.isascii()
        assert not set(file.data) & (set(range(32)) - {ord("\n")})
        for secret in (KEY, "sk-proj-abcdefghijkl", "Bearer abcdefghijkl"):
            assert secret.encode() not in file.data
        if to is not Format.OTLP:  # where it is a text in a text
            assert b"\\ud800" not in file.data


def test_what_is_not_there_is_named(run: Path) -> None:
    for wrong in (Choice(task_id="no-such"), Choice(attempt=9), Choice(repeat=3)):
        with pytest.raises(UsageError, match="no such attempt"):
            list(export_run(run, Format.ATIF, wrong))


@pytest.mark.parametrize("to", Format)
def test_a_damaged_run_is_an_error_that_names_the_file(tmp_path: Path, to: Format) -> None:
    run = recorded_run(tmp_path)
    name = "trace.otlp.jsonl" if to is Format.OTLP else "execution.json"
    (run / "tasks/quiet/1-1" / name).write_text("{")
    with pytest.raises(StorageFailed, match="quiet"):
        list(export_run(run, to, Choice()))
    (run / "lock.json").unlink()
    with pytest.raises(StorageFailed, match="lock"):
        list(export_run(run, to, Choice()))
