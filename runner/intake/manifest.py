"""`submission.toml`: hostile bytes in, a typed manifest or one line with all its problems out."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from runner.domain import BenchmarkCategory
from runner.domain.text import one_line
from runner.errors import InvalidSubmission
from runner.intake.headers import key_name_problem, names_problem, value_problem
from runner.intake.names import identifier_problem, module_problem

MANIFEST_NAME = "submission.toml"
MAX_MANIFEST_BYTES = 64 * 1024
MAX_PROBLEMS_SHOWN = 10
GUIDE = "see docs/submissions.md"


def _printable(text: str) -> str:
    if not text.isprintable():
        raise PydanticCustomError("text", "contains unprintable characters: write plain text")
    return text


def _inside(path: str) -> str:
    """A relative path that stays where it starts; links are looked at when it is opened."""
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path:
        raise PydanticCustomError(
            "path", "must be a relative path inside the submission's directory, without `..`"
        )
    return path


def _identifier(name: str) -> str:
    if problem := identifier_problem(name):
        raise PydanticCustomError("name", "{problem}", {"problem": problem})
    return name


def _module(name: str) -> str:
    if problem := module_problem(name):
        raise PydanticCustomError("name", "{problem}", {"problem": problem})
    return name


def _header(name: str) -> str:
    if problem := key_name_problem(name):
        raise PydanticCustomError("name", "{problem}", {"problem": problem})
    return name


Line = Annotated[str, Field(max_length=254), AfterValidator(_printable)]
InsidePath = Annotated[Line, AfterValidator(_inside)]
Argument = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]
Category = Annotated[BenchmarkCategory, Field(strict=False)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class EndpointTable(_Table):
    """`[agent_endpoint]`."""

    endpoint_type: Literal["local", "container", "http", "grpc"]
    module_path: Annotated[Line, AfterValidator(_module)] | None = None
    function_name: Annotated[Line, AfterValidator(_identifier)] | None = None
    image: (
        Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_printable)] | None
    ) = None
    archive: InsidePath | None = None
    dockerfile: InsidePath | None = None
    interface: Literal["stdio", "http"] | None = None
    command: list[Argument] = Field(default=[], max_length=256)
    port: int | None = Field(default=None, ge=1, le=65535)
    url: Annotated[Line, Field(pattern=r"^(https?|grpcs?)://\S+$")] | None = None
    auth_type: Literal["none", "bearer", "api_key"] = "none"
    auth_env: Annotated[Line, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    auth_header: Annotated[str, AfterValidator(_header)] | None = None
    headers: dict[str, SecretStr] = Field(default={}, max_length=100)

    @field_validator("headers")
    @classmethod
    def _headers_can_be_sent(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        problems = [names_problem(headers)]
        for name, value in headers.items():
            problem = value_problem(value.get_secret_value())
            problems.append(f"{one_line(name, 60)} {problem}" if problem else "")
        if found := "; ".join(filter(None, problems)):
            raise PydanticCustomError("headers", "{problem}", {"problem": found})
        return headers

    @model_validator(mode="after")
    def _fields_fit_the_type(self) -> EndpointTable:
        problems = [*self._missing(), *self._misplaced()]
        if problems:
            raise PydanticCustomError("fit", "{problems}", {"problems": "; ".join(problems)})
        return self

    def _missing(self) -> list[str]:
        kind = self.endpoint_type
        if kind == "container":
            given = [n for n in ("image", "archive", "dockerfile") if getattr(self, n) is not None]
            if len(given) == 1:
                return []
            found = " and ".join(given) or "none"
            return [f"a container needs exactly one of image, archive, dockerfile; {found} given"]
        needed = ("module_path", "function_name") if kind == "local" else ("url",)
        return [
            f"{name} is missing: a {kind} agent needs it"
            for name in needed
            if not getattr(self, name)
        ]

    def _misplaced(self) -> list[str]:
        given = self.model_fields_set - {"endpoint_type"} - _FIELDS_OF[self.endpoint_type]
        return [
            f"{name} is not for a {self.endpoint_type} agent: remove it" for name in sorted(given)
        ]


_REMOTE = {"url", "auth_type", "auth_env", "auth_header", "headers"}
_FIELDS_OF = {
    "local": {"module_path", "function_name"},
    "container": {"image", "archive", "dockerfile", "interface", "command", "port"},
    "http": _REMOTE,
    "grpc": _REMOTE,
}


class Manifest(_Table):
    """The whole file."""

    agent_name: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]
    agent_version: Annotated[str, Field(min_length=1, max_length=50), AfterValidator(_printable)]
    contact_email: Line = ""
    submitted_by: Line = ""
    organization: Line | None = None
    categories: list[Category] = Field(default=[], max_length=100)
    terms_accepted: bool = False
    agent_endpoint: EndpointTable


def read_manifest(path: Path) -> Manifest:
    """The manifest at `path`; raises InvalidSubmission that names every problem."""
    return parse_manifest(_read(path), one_line(str(path)))


def parse_manifest(data: bytes, shown: str) -> Manifest:
    """The manifest in `data`; `shown` is what errors call the file."""
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidSubmission(
            f"{shown}, line {line}: not UTF-8 text", remedy="save it as UTF-8"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidSubmission(
            f"{shown}: not valid TOML: {one_line(str(error))}", remedy=f"mend that line; {GUIDE}"
        ) from None
    except (RecursionError, ValueError):
        raise InvalidSubmission(
            f"{shown}: not valid TOML: nested too deeply, or a number too long", remedy=GUIDE
        ) from None
    return _validated(table, shown)


def _read(path: Path) -> bytes:
    shown = one_line(str(path))
    if not path.is_file():
        raise InvalidSubmission(f"{shown} is not a regular file", remedy="write the manifest there")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise InvalidSubmission(
            f"{shown} cannot be read: {error.strerror}", remedy="make it readable for this user"
        ) from None
    if len(data) > MAX_MANIFEST_BYTES:
        raise InvalidSubmission(
            f"{shown} is larger than {MAX_MANIFEST_BYTES // 1024} KiB", remedy="shorten it"
        )
    return data


def _validated(table: dict[str, Any], shown: str) -> Manifest:
    try:
        return Manifest.model_validate(table)
    except ValidationError as error:
        problems = [_problem(e) for e in error.errors(include_url=False)]
    left_out = len(problems) - MAX_PROBLEMS_SHOWN
    more = [f"and {left_out} more"] if left_out > 0 else []
    raise InvalidSubmission(
        f"{shown}: {'; '.join(problems[:MAX_PROBLEMS_SHOWN] + more)}", remedy=GUIDE
    )


def _problem(error: ErrorDetails) -> str:
    """One pydantic error as `field: what is wrong and what to write`."""
    field = _field(error["loc"])
    match error["type"]:
        case "extra_forbidden":
            return _unknown_key(error["loc"], field)
        case "missing":
            return f"{field} is missing: {_example(field)}"
        case "enum" | "literal_error":
            given = one_line(repr(error["input"]), 60)
            return f"{field}: {given} is not one of {_choices(error)}"
        case "string_pattern_mismatch":
            return f"{field}: {one_line(repr(error['input']), 60)} has the wrong form"
        case "fit" | "headers" | "name":
            return f"{field}: {error['msg']}"
        case _:
            return f"{field}: {_lower_first(error['msg'])}"


def _field(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{one_line(part, 60)}"
    return path.removeprefix(".") or "the file"


def _choices(error: ErrorDetails) -> str:
    return ", ".join(re.findall(r"'([^']*)'", str(error.get("ctx", {}).get("expected", ""))))


def _unknown_key(location: tuple[int | str, ...], field: str) -> str:
    if location[-1] == "auth_credentials":
        return f"{field}: secrets do not belong in a manifest; name a variable in auth_env"
    table = EndpointTable if location[0] == "agent_endpoint" else Manifest
    close = difflib.get_close_matches(str(location[-1])[:100], table.model_fields, n=1)
    if close:
        return f"{field} is unknown: did you mean {close[0]}?"
    other = Manifest if table is EndpointTable else EndpointTable
    if location[-1] in other.model_fields:
        where = "above [agent_endpoint]" if other is Manifest else "under [agent_endpoint]"
        return f"{field} belongs {where}"
    return f"{field} is unknown: remove it"


def _example(field: str) -> str:
    examples = {
        "agent_name": 'agent_name = "my-agent"',
        "agent_version": 'agent_version = "1.0.0"',
        "agent_endpoint": 'a table [agent_endpoint] with endpoint_type = "local"',
        "agent_endpoint.endpoint_type": 'endpoint_type = "local" (or container, http, grpc)',
    }
    return f"add {examples.get(field, field)}"


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
