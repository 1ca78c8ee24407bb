"""What somebody hands in to be evaluated."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator

from runner.domain.base import Noun
from runner.domain.category import BenchmarkCategory


class AgentEndpoint(Noun):
    """Where the agent is and how it is spoken to.

    `local`: `module_path` (without .py) and `function_name` in `source`, built into a container.
    `container`: exactly one of `image`, `archive`, `dockerfile`, and an `interface`.
    `http`, `grpc`: `url` and its authentication.
    """

    endpoint_type: Literal["local", "container", "http", "grpc"]
    source: Path | None = None
    """The directory that `module_path`, `archive` and `dockerfile` are relative to."""
    module_path: str | None = None
    function_name: str | None = None
    image: str | None = None
    archive: str | None = None
    dockerfile: str | None = None
    interface: Literal["stdio", "http"] | None = None
    command: tuple[str, ...] = ()
    """The agent's process; empty: the image's own ENTRYPOINT and CMD."""
    port: int = Field(default=8000, ge=1, le=65535)
    """Where an agent with the `http` interface listens, inside its container."""
    url: str | None = None
    auth_type: Literal["none", "bearer", "api_key"] = "none"
    auth_env: str | None = None
    """Name of the variable that holds the token or key."""
    auth_header: str = "X-API-Key"
    """The header that carries the key, for api_key."""
    auth_credentials: dict[str, SecretStr] = Field(default_factory=dict)
    """`token` for bearer, `key` and optionally `header` for api_key; in memory alone, never stored
    in clear."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Further headers of each request; treated as credentials."""

    @property
    def remote(self) -> bool:
        """Whether the agent runs elsewhere, behind a URL, and not in a container of ours."""
        return self.endpoint_type in ("http", "grpc")

    @model_validator(mode="after")
    def _fields_fit_the_type(self) -> AgentEndpoint:
        match self.endpoint_type:
            case "local":
                self._need("module_path", "function_name")
            case "container":
                given = [n for n in ("image", "archive", "dockerfile") if getattr(self, n)]
                if len(given) != 1:
                    raise ValueError(
                        "a container endpoint needs exactly one of image, archive, dockerfile;"
                        f" {', '.join(given) or 'none'} given"
                    )
            case "http" | "grpc":
                self._need("url")
        return self

    def _need(self, *names: str) -> None:
        missing = [name for name in names if not getattr(self, name)]
        if missing:
            raise ValueError(f"a {self.endpoint_type} endpoint needs {' and '.join(missing)}")


class BenchmarkSubmission(Noun):
    """An agent, who handed it in, and what it is to be evaluated on."""

    agent_name: str = Field(min_length=1, max_length=100)
    agent_version: str = Field(min_length=1, max_length=50)
    agent_endpoint: AgentEndpoint
    contact_email: str = ""
    submitted_by: str = ""
    organization: str | None = None
    categories: tuple[BenchmarkCategory, ...] = ()
    """Empty: all categories of the suite."""
    terms_accepted: bool = False
    submission_id: str = ""
    """Given, or else derived from the agent's name, version and submitter."""

    @model_validator(mode="after")
    def _derive_id(self) -> BenchmarkSubmission:
        if not self.submission_id:
            identity = "\0".join((self.agent_name, self.agent_version, self.submitted_by))
            digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
            object.__setattr__(self, "submission_id", f"sub-{digest}")
        return self
