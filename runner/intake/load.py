"""What a user names on the command line becomes a `BenchmarkSubmission`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

from runner.domain import AgentEndpoint, BenchmarkSubmission
from runner.domain.text import one_line
from runner.errors import InvalidSubmission
from runner.intake.manifest import MANIFEST_NAME, Manifest, read_manifest
from runner.intake.names import identifier_problem
from runner.intake.source import check_file, check_function, reading

InterfaceName = Literal["stdio", "http"]

MINIMAL_MANIFEST = (
    'agent_name = "NAME", agent_version = "1.0.0", [agent_endpoint] endpoint_type = "local",'
    ' module_path = "agent", function_name = "my_agent"'
)
SHORTCUT_VERSION = "0.0.0"
DEFAULT_PORT = 8000


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """What the command line says in place of a container's manifest; None or empty: nothing."""

    interface: InterfaceName | None = None
    command: tuple[str, ...] = ()
    port: int | None = None

    @property
    def given(self) -> bool:
        """Whether anything is overridden."""
        return self != Overrides()


def load_submission(
    target: str,
    *,
    interface: str | None = None,
    command: Sequence[str] = (),
    port: int | None = None,
) -> BenchmarkSubmission:
    """The submission in the directory `target`, the function `path/agent.py:function`, or a URL.

    Nothing of the submission is imported or run. The keywords replace what a container's
    manifest says. Raises InvalidSubmission.
    """
    submission = read_submission(target, interface=interface, command=command, port=port)
    check_source(submission)
    return submission


def read_submission(
    target: str,
    *,
    interface: str | None = None,
    command: Sequence[str] = (),
    port: int | None = None,
) -> BenchmarkSubmission:
    """As `load_submission`, but leaves it to `check_source` to look at what a manifest names."""
    overrides = _overrides(interface, command, port)
    if "://" in target:
        return _url_submission(target, overrides)
    path, colon, function = target.rpartition(":")
    if colon and path.endswith(".py"):
        return _function_submission(Path(path), function, overrides)
    return _directory_submission(Path(target), overrides)


def check_source(submission: BenchmarkSubmission) -> None:
    """What the endpoint points at is there, inside its directory; raises InvalidSubmission."""
    endpoint = submission.agent_endpoint
    source = endpoint.source
    if source is None:
        return
    with reading(source):
        if endpoint.module_path and endpoint.function_name:
            check_function(source, endpoint.module_path, endpoint.function_name)
        for field, name in (("archive", endpoint.archive), ("dockerfile", endpoint.dockerfile)):
            if name:
                check_file(source, name, field)


def image_submission(
    reference: str,
    *,
    interface: str | None = None,
    command: Sequence[str] = (),
    port: int | None = None,
) -> BenchmarkSubmission:
    """The submission that consists of an image alone; the interface is stdio unless given.

    Whether the image exists is for the builder to find out. Raises InvalidSubmission.
    """
    overrides = _overrides(interface, command, port)
    if not reference or not reference.isprintable() or len(reference) > 512:
        raise InvalidSubmission(
            f"--image {one_line(reference)!r} is not an image reference",
            remedy="give name:tag, name@sha256:..., or an image id",
        )
    endpoint = AgentEndpoint(endpoint_type="container", image=reference, interface="stdio")
    return BenchmarkSubmission(
        agent_name=reference.partition("@")[0].rpartition("/")[2].partition(":")[0][:100]
        or "image",
        agent_version=SHORTCUT_VERSION,
        agent_endpoint=_overridden(endpoint, overrides),
    )


def _overrides(interface: str | None, command: Sequence[str], port: int | None) -> Overrides:
    if interface is not None and interface not in get_args(InterfaceName):
        raise InvalidSubmission(
            f"the interface {one_line(interface)!r} does not exist", remedy="use stdio or http"
        )
    if port is not None and not 1 <= port <= 65535:
        raise InvalidSubmission(f"the port {port} does not exist", remedy="use 1 to 65535")
    return Overrides(
        interface="http" if interface == "http" else "stdio" if interface else None,
        command=tuple(command),
        port=port,
    )


def _overridden(endpoint: AgentEndpoint, overrides: Overrides) -> AgentEndpoint:
    if not overrides.given:
        return endpoint
    if endpoint.endpoint_type != "container":
        raise InvalidSubmission(
            f"interface, command and port cannot be given for a {endpoint.endpoint_type} agent",
            remedy="leave them out; they are for container submissions",
        )
    return endpoint.model_copy(
        update={
            "interface": overrides.interface or endpoint.interface,
            "command": overrides.command or endpoint.command,
            "port": overrides.port or endpoint.port,
        }
    )


# -- a directory with a manifest ---------------------------------------------------------------


def _directory_submission(directory: Path, overrides: Overrides) -> BenchmarkSubmission:
    with reading(directory):
        manifest_path = _manifest_in(directory)
        manifest = read_manifest(manifest_path)
        source = manifest_path.parent.resolve()
    return _submission(manifest, source, overrides)


def _manifest_in(directory: Path) -> Path:
    """The manifest of a target; raises InvalidSubmission when there is none, and OSError."""
    shown = one_line(str(directory))
    if directory.name == MANIFEST_NAME and directory.is_file():
        return directory
    if not directory.exists():
        raise InvalidSubmission(
            f"{shown} does not exist",
            remedy="give a directory, path/agent.py:function, or --image REF",
        )
    if not directory.is_dir():
        raise InvalidSubmission(f"{shown} is not a directory", remedy=_hint_for_a_file(directory))
    if not (directory / MANIFEST_NAME).exists():
        raise InvalidSubmission(
            f"{shown} has no {MANIFEST_NAME}", remedy=f"add one with at least: {MINIMAL_MANIFEST}"
        )
    return directory / MANIFEST_NAME


def _hint_for_a_file(path: Path) -> str:
    if path.suffix == ".py":
        return f"name the function too: {one_line(str(path))}:my_agent"
    return f"give the directory that holds {MANIFEST_NAME}, or --image REF for an image"


def _submission(manifest: Manifest, source: Path, overrides: Overrides) -> BenchmarkSubmission:
    given = manifest.agent_endpoint
    is_container = given.endpoint_type == "container"
    endpoint = AgentEndpoint(
        **given.model_dump(exclude={"interface", "port", "command", "auth_header"}),
        **({"auth_header": given.auth_header} if given.auth_header else {}),
        source=source,
        interface=given.interface or ("stdio" if is_container else None),
        command=tuple(given.command),
        port=given.port or DEFAULT_PORT,
    )
    return BenchmarkSubmission(
        **manifest.model_dump(exclude={"agent_endpoint", "categories"}),
        categories=tuple(manifest.categories),
        agent_endpoint=_overridden(endpoint, overrides),
    )


# -- a URL ---------------------------------------------------------------------------------------


def _url_submission(url: str, overrides: Overrides) -> BenchmarkSubmission:
    shown = one_line(url, 120)
    scheme, _, rest = url.partition("://")
    if scheme in ("grpc", "grpcs"):
        raise InvalidSubmission(
            f"{shown}: gRPC agents cannot be run yet",
            remedy="give it an HTTP interface: POST {prompt, config}, answered by {output}",
        )
    if scheme not in ("http", "https") or not rest or not url.isprintable() or " " in url:
        raise InvalidSubmission(
            f"{shown} is not a URL of an agent", remedy="write https://HOST/PATH"
        )
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    endpoint = AgentEndpoint(endpoint_type="http", url=url)
    return BenchmarkSubmission(
        agent_name=host[:100] or "agent",
        agent_version=SHORTCUT_VERSION,
        agent_endpoint=_overridden(endpoint, overrides),
    )


# -- one function of one file ------------------------------------------------------------------


def _function_submission(path: Path, function: str, overrides: Overrides) -> BenchmarkSubmission:
    with reading(path):
        source = _source_of(path, function)
    endpoint = AgentEndpoint(
        endpoint_type="local", source=source, module_path=path.stem, function_name=function
    )
    return BenchmarkSubmission(
        agent_name=path.stem[:100],
        agent_version=SHORTCUT_VERSION,
        agent_endpoint=_overridden(endpoint, overrides),
    )


def _source_of(path: Path, function: str) -> Path:
    """The directory of that file; raises InvalidSubmission and OSError."""
    shown = one_line(str(path))
    if not path.is_file():
        raise InvalidSubmission(f"{shown} does not exist", remedy="check the path before the colon")
    if not function:
        raise InvalidSubmission(
            f"{shown}: no function is named", remedy=f"write it after the colon: {shown}:my_agent"
        )
    for field, name in (("module", path.stem), ("function", function)):
        if problem := identifier_problem(name):
            raise InvalidSubmission(f"{shown}: the {field} name {problem}", remedy="rename it")
    return path.parent.resolve()
