"""Submitting, with a real store and a real directory; only the agent is not looked for."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path

import pytest

from runner.bootstrap import submitting
from runner.bootstrap.storing import sealer_of, store_of
from runner.bootstrap.submitting import SubmitRequest, bundles_of, submit
from runner.config import Settings, load_settings
from runner.domain import BenchmarkSubmission, CheckName, JobOptions
from runner.errors import InvalidSubmission, QuotaExceeded

MANIFEST = """agent_name = "echo"
agent_version = "1.0.0"
contact_email = "dev@example.com"
submitted_by = "team"
terms_accepted = true
"""
LOCAL = '[agent_endpoint]\nendpoint_type = "local"\nmodule_path = "agent"\nfunction_name = "f"\n'
HTTP = """[agent_endpoint]
endpoint_type = "http"
url = "https://agent.example.com/"
auth_type = "bearer"
auth_env = "AGENT_TOKEN"
[agent_endpoint.headers]
X-Team = "s3cret"
"""


@pytest.fixture
def settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_agenttrace_environment: None
) -> Settings:
    monkeypatch.setenv("AGENT_TOKEN", "t")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", None)

    def reach_of(_settings: object, _say: object) -> object:
        async def reach(submission: BenchmarkSubmission) -> str:
            return f"{submission.agent_name} is there"

        return reach

    monkeypatch.setattr(submitting, "_reach_of", reach_of)
    flags = {"storage.state_dir": str(tmp_path / "state"), "submissions.quota_per_day": 2}
    return load_settings(flags, cwd=tmp_path, environ={}).settings


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    directory = tmp_path / "agent"
    directory.mkdir()
    (directory / "submission.toml").write_text(MANIFEST + LOCAL)
    (directory / "agent.py").write_text("def f(prompt, config):\n    return prompt\n")
    return directory


def test_a_directory_is_queued(settings: Settings, agent: Path) -> None:
    said: list[str] = []
    result, job = submit(settings, SubmitRequest(target=str(agent)), said.append)
    assert result.is_valid
    assert job is not None
    assert said == ["queued: place 1 of 1; no worker runs: start `agenttrace worker`"]
    with store_of(settings) as store:
        assert store.queue.job(job.run_id) == job
    assert job.submission.agent_endpoint.source == bundles_of(settings) / job.run_id
    assert (bundles_of(settings) / job.run_id / "agent.py").is_file()


def test_an_archive_is_queued_and_nothing_else_is_left(
    settings: Settings, agent: Path, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "agent.tar.gz", "w:gz") as archive:
        archive.add(agent, "my-agent")
    request = SubmitRequest(target=str(tmp_path / "agent.tar.gz"))
    _, job = submit(settings, request, lambda _: None)
    assert job is not None
    names = sorted(path.name for path in (bundles_of(settings) / job.run_id).iterdir())
    assert names == ["agent.py", "submission.toml"]
    assert not list((tmp_path / "tmp").iterdir())


def test_a_hostile_archive_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "agent.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("../evil"))
    with pytest.raises(InvalidSubmission, match="leads out"):
        submit(settings, SubmitRequest(target=str(tmp_path / "agent.tar")), lambda _: None)
    assert not list((tmp_path / "tmp").iterdir())


def test_checking_queues_nothing(settings: Settings, agent: Path) -> None:
    request = SubmitRequest(target=str(agent), check_only=True)
    result, job = submit(settings, request, lambda _: None)
    assert (result.is_valid, job) == (True, None)
    assert not bundles_of(settings).exists()


def test_what_is_refused_is_told_in_full(settings: Settings) -> None:
    result, job = submit(settings, SubmitRequest(image="repo/agent:1"), lambda _: None)
    assert job is None
    failed = [one.name for one in result.outcomes if not one.passed]
    assert failed == [
        *(CheckName.REQUIRED_FIELDS, CheckName.TERMS_ACCEPTED, CheckName.EMAIL_VALID),
        CheckName.QUOTA_AVAILABLE,
    ]


def test_the_command_line_says_who_submits(settings: Settings, agent: Path) -> None:
    def submitted(name: str | None) -> BenchmarkSubmission:
        _, job = submit(
            settings, SubmitRequest(target=str(agent), submitted_by=name), lambda _: None
        )
        assert job is not None
        return job.submission

    by_manifest, by_option = submitted(None), submitted("other")
    assert (by_manifest.submitted_by, by_option.submitted_by) == ("team", "other")
    assert by_manifest.submission_id != by_option.submission_id


def test_the_quota_is_kept(settings: Settings, agent: Path) -> None:
    request = SubmitRequest(target=str(agent))
    for _ in range(2):
        submit(settings, request, lambda _: None)
    with pytest.raises(QuotaExceeded):
        submit(settings, request, lambda _: None)
    assert len(list(bundles_of(settings).iterdir())) == 2


def test_credentials_are_in_no_file_of_ours(settings: Settings, agent: Path) -> None:
    (agent / "submission.toml").write_text(MANIFEST + HTTP)
    _, job = submit(settings, SubmitRequest(target=str(agent)), lambda _: None)
    assert job is not None
    state = Path(settings.storage.state_dir)
    for path in state.rglob("*"):
        assert path.is_dir() or b"s3cret" not in path.read_bytes()
    assert sealer_of(settings).unseal(job.submission, b"") == job.submission
    assert job.submission.agent_endpoint.auth_env == "AGENT_TOKEN"
    assert not bundles_of(settings).exists()


def test_a_suite_in_a_directory_is_found_from_elsewhere(
    settings: Settings, agent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starter = Path(submitting.__file__).parents[1] / "suites/starter"
    monkeypatch.chdir(starter.parent)
    request = SubmitRequest(target=str(agent), options=JobOptions(suite="./starter"))
    _, job = submit(settings, request, lambda _: None)
    assert job is not None
    assert job.options.suite == str(starter)
