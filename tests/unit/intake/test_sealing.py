"""Credentials are sealed with a key that is made once, and shown to nobody."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from runner.domain import AgentEndpoint, BenchmarkSubmission
from runner.errors import InvalidConfiguration, StorageFailed
from runner.intake.sealing import Sealer, without_secrets

SECRET = "s3cret-token"


def submission(name: str = "echo", url: str = "https://example.com/") -> BenchmarkSubmission:
    endpoint = AgentEndpoint(
        endpoint_type="http",
        url=url,
        auth_type="bearer",
        auth_credentials={"token": SecretStr(SECRET)},
        headers={"X-Team": SecretStr("another-secret")},
    )
    return BenchmarkSubmission(agent_name=name, agent_version="1", agent_endpoint=endpoint)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "state/secret.key"


def test_what_is_sealed_comes_back(key_file: Path) -> None:
    given = submission()
    stored = without_secrets(given)
    assert SECRET not in stored.model_dump_json()
    assert stored.agent_endpoint.auth_credentials == stored.agent_endpoint.headers == {}
    sealed = Sealer(key_file).seal(given)
    assert SECRET.encode() not in sealed
    assert SECRET not in repr(Sealer(key_file)) + repr(given) + str(given)
    assert Sealer(key_file).unseal(stored, sealed) == given
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in key_file.parent.iterdir()] == ["secret.key"]


def test_without_secrets_there_is_no_key(key_file: Path) -> None:
    plain = without_secrets(submission())
    assert Sealer(key_file).seal(plain) == b""
    assert Sealer(key_file).unseal(plain, b"") == plain
    assert not key_file.exists()


def test_of_many_that_make_the_key_one_wins(key_file: Path) -> None:
    barrier = threading.Barrier(8)
    sealed: list[bytes] = []

    def seal() -> None:
        barrier.wait()
        sealed.append(Sealer(key_file).seal(submission()))

    threads = [threading.Thread(target=seal) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {Sealer(key_file).unseal(submission(), one) == submission() for one in sealed} == {True}
    assert len(sealed) == 8


def test_another_key(key_file: Path) -> None:
    sealed = Sealer(key_file).seal(submission())
    key_file.write_bytes(Fernet.generate_key())
    with pytest.raises(InvalidConfiguration, match="sealed with another key") as caught:
        Sealer(key_file).unseal(submission(), sealed)
    assert "storage.key_file" in caught.value.remedy
    assert SECRET not in str(caught.value)


def test_bytes_that_were_tampered_with(key_file: Path) -> None:
    sealed = bytearray(Sealer(key_file).seal(submission()))
    sealed[30] ^= 1
    with pytest.raises(InvalidConfiguration):
        Sealer(key_file).unseal(submission(), bytes(sealed))


@pytest.mark.parametrize("other", [submission("other"), submission(url="https://evil.example/")])
def test_sealed_bytes_belong_to_one_submission(key_file: Path, other: BenchmarkSubmission) -> None:
    sealed = Sealer(key_file).seal(submission())
    with pytest.raises(InvalidConfiguration, match="are not those of"):
        Sealer(key_file).unseal(other, sealed)


def test_a_key_that_is_gone(key_file: Path) -> None:
    sealed = Sealer(key_file).seal(submission())
    key_file.unlink()
    with pytest.raises(InvalidConfiguration, match="there is no key"):
        Sealer(key_file).unseal(submission(), sealed)
    assert not key_file.exists()


@pytest.mark.parametrize("key", [b"", b"short", b"x" * 44, b"x" * 1000])
def test_a_file_that_is_no_key(key_file: Path, key: bytes) -> None:
    key_file.parent.mkdir()
    key_file.write_bytes(key)
    key_file.chmod(0o600)
    with pytest.raises(InvalidConfiguration, match="it holds no key"):
        Sealer(key_file).seal(submission())
    assert key_file.read_bytes() == key


def test_a_key_that_everybody_may_read(key_file: Path) -> None:
    Sealer(key_file).seal(submission())
    key_file.chmod(0o644)
    with pytest.raises(InvalidConfiguration, match="everybody may read"):
        Sealer(key_file).seal(submission())


def test_a_key_that_an_editor_has_saved(key_file: Path) -> None:
    sealed = Sealer(key_file).seal(submission())
    key_file.write_bytes(key_file.read_bytes() + b"\n")
    assert Sealer(key_file).unseal(submission(), sealed) == submission()


def test_a_place_where_no_key_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((StorageFailed, InvalidConfiguration)):
        Sealer(tmp_path / "file/secret.key").seal(submission())
