"""What a worker looks at before it runs a claimed job."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.bootstrap.jobs import check_credentials, check_files
from runner.domain import AgentEndpoint, BenchmarkSubmission
from runner.errors import NotSetUp, StorageFailed


def submission(source: Path | None) -> BenchmarkSubmission:
    return BenchmarkSubmission(
        agent_name="echo",
        agent_version="1.0.0",
        agent_endpoint=AgentEndpoint(
            endpoint_type="local", source=source, module_path="agent", function_name="answer"
        ),
    )


def test_files_that_are_there(tmp_path: Path) -> None:
    check_files(submission(tmp_path))


def test_a_submission_without_files_of_its_own() -> None:
    endpoint = AgentEndpoint(endpoint_type="container", image="repo/agent:1")
    details = {"agent_name": "a", "agent_version": "1.0.0", "agent_endpoint": endpoint}
    check_files(BenchmarkSubmission(**details))


def test_files_that_are_gone_are_no_fault_of_the_submitter(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match=r"not at .*/gone") as error:
        check_files(submission(tmp_path / "gone"))
    assert "restore" in error.value.remedy


def test_a_secret_that_this_worker_lacks_is_not_its_submitters_fault() -> None:
    endpoint = AgentEndpoint(
        endpoint_type="http", url="https://a.example", auth_type="bearer", auth_env="AGENT_TOKEN"
    )
    given = BenchmarkSubmission(agent_name="a", agent_version="1", agent_endpoint=endpoint)
    with pytest.raises(NotSetUp, match="AGENT_TOKEN"):
        check_credentials(given, {"AGENT_TOKEN": ""})
    check_credentials(given, {"AGENT_TOKEN": "t"})
