"""What is stored of a submission, and of whatever an agent writes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from runner.domain import BenchmarkSubmission, TaskExecution
from runner.store.documents import submission_json, to_json
from tests.strategies import hostile_text
from tests.unit.store.nouns import submission, task_execution


@given(hostile_text)
def test_any_output_is_stored_and_read_back(output: str) -> None:
    stored = to_json(task_execution(output=output))
    stored.encode()
    assert "\0" not in stored
    back = TaskExecution.model_validate_json(stored)
    clean = output.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert back.output == clean


@pytest.mark.parametrize(
    ("url", "stored"),
    [
        ("https://user:hunter2@host:1/p?q=1#f", "https://host:1/p?q=1#f"),
        ("https://hunter2@host", "https://host"),
        ("https://user:hunter2@x@[::1]:8/", "https://[::1]:8/"),
        ("https://user:hunter2@[::1/", "(not a URL)"),
        ("https://host/a@b", "https://host/a@b"),
    ],
)
def test_no_secret_of_a_submission_is_stored(url: str, stored: str) -> None:
    given = submission(
        endpoint_type="http",
        url=url,
        auth_type="bearer",
        auth_env="TOKEN",
        auth_credentials={"token": "hunter2"},
        headers={"Cookie": "hunter2"},
    )
    text = submission_json(given)
    assert "hunter2" not in text
    endpoint = json.loads(text)["agent_endpoint"]
    assert endpoint["url"] == stored
    assert "auth_credentials" not in endpoint
    assert "headers" not in endpoint
    back = BenchmarkSubmission.model_validate_json(text)
    assert back.submission_id == given.submission_id
    assert back.agent_endpoint.auth_env == "TOKEN"
