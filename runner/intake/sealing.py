"""Credentials of queued submissions, encrypted with a key that is not in the database."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from pydantic import SecretStr

from runner.domain import AgentEndpoint, BenchmarkSubmission
from runner.errors import InvalidConfiguration, StorageFailed

KEY_BYTES = 44
"""As Fernet writes it: 32 bytes in base64."""


def without_secrets(submission: BenchmarkSubmission) -> BenchmarkSubmission:
    """What of a submission may be stored in clear."""
    return _with_endpoint(submission, auth_credentials={}, headers={})


class Sealer:
    """Seals and unseals credentials; the key is made when it is first needed."""

    def __init__(self, key_file: Path) -> None:
        self._key_file = key_file

    def seal(self, submission: BenchmarkSubmission) -> bytes:
        """Its credentials and headers, encrypted; empty if it has none.

        Bound to the submission and its URL: sealed bytes that were moved to another do not open.
        Raises InvalidConfiguration, StorageFailed.
        """
        endpoint = submission.agent_endpoint
        if not endpoint.auth_credentials and not endpoint.headers:
            return b""
        secrets = {
            "for": _address(submission),
            "auth_credentials": _revealed(endpoint.auth_credentials),
            "headers": _revealed(endpoint.headers),
        }
        return Fernet(self._key(make=True)).encrypt(json.dumps(secrets).encode())

    def unseal(self, submission: BenchmarkSubmission, sealed: bytes) -> BenchmarkSubmission:
        """The submission with what `seal` took of it; raises InvalidConfiguration."""
        if not sealed:
            return submission
        try:
            secrets = json.loads(Fernet(self._key(make=False)).decrypt(sealed))
        except InvalidToken:
            raise InvalidConfiguration(
                f"the credentials of {submission.submission_id} were sealed with another key than"
                f" {self._key_file}",
                remedy="copy the key file of the host that took the submission"
                " (setting storage.key_file), or submit it again",
            ) from None
        if secrets["for"] != _address(submission):
            raise InvalidConfiguration(
                f"the sealed credentials are not those of {submission.submission_id}",
                remedy="somebody has changed the database: submit it again",
            )
        return _with_endpoint(
            submission,
            auth_credentials=_hidden(secrets["auth_credentials"]),
            headers=_hidden(secrets["headers"]),
        )

    def _key(self, *, make: bool) -> bytes:
        with suppress(FileNotFoundError):
            return self._read()
        if make:
            self._make()
            return self._read()
        raise InvalidConfiguration(
            f"there is no key {self._key_file} to unseal credentials with",
            remedy="copy it from the host that took the submission (setting storage.key_file)",
        )

    def _read(self) -> bytes:
        """The key; raises FileNotFoundError too."""
        try:
            with self._key_file.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                key = file.read(KEY_BYTES + 1).rstrip(b"\n")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._unusable((error.strerror or str(error)).lower()) from None
        if mode & (stat.S_IROTH | stat.S_IWOTH):
            raise self._unusable("everybody may read or change it: chmod 600")
        try:
            Fernet(key)
        except ValueError:
            raise self._unusable("it holds no key") from None
        return key

    def _unusable(self, reason: str) -> InvalidConfiguration:
        return InvalidConfiguration(
            f"the key file {self._key_file} cannot be used: {reason}",
            remedy="mend it, or name another one (setting storage.key_file)",
        )

    def _make(self) -> None:
        """Writes a new key aside and links it into place: of several at once, one wins whole."""
        directory = self._key_file.parent
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, aside = tempfile.mkstemp(prefix=".key-", dir=directory)  # O_EXCL, 0600
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(Fernet.generate_key())
                    file.flush()
                    os.fsync(descriptor)
                with suppress(FileExistsError):
                    os.link(aside, self._key_file)
            finally:
                Path(aside).unlink()
        except OSError as error:
            raise StorageFailed(
                f"cannot write {self._key_file}: {(error.strerror or str(error)).lower()}",
                remedy="choose another place (setting storage.key_file)",
            ) from error


def _address(submission: BenchmarkSubmission) -> list[str | None]:
    return [submission.submission_id, submission.agent_endpoint.url]


def _revealed(secrets: dict[str, SecretStr]) -> dict[str, str]:
    return {name: secret.get_secret_value() for name, secret in secrets.items()}


def _hidden(secrets: dict[str, str]) -> dict[str, SecretStr]:
    return {name: SecretStr(secret) for name, secret in secrets.items()}


def _with_endpoint(
    submission: BenchmarkSubmission, **changes: dict[str, SecretStr]
) -> BenchmarkSubmission:
    endpoint: AgentEndpoint = submission.agent_endpoint.model_copy(update=changes)
    return submission.model_copy(update={"agent_endpoint": endpoint})
