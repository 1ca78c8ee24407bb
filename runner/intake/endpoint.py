"""The checks of where an agent is: what kind it is of, its URL, its credentials, an answer."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

from runner.domain import AgentEndpoint, CheckName, CheckOutcome
from runner.domain.text import one_line
from runner.errors import RunnerError
from runner.intake.headers import key_name_problem, names_problem, value_problem
from runner.intake.subject import Rules, Subject, failed, fits, passed, unknown

_CREDENTIAL = {"bearer": "token", "api_key": "key"}
"""What `auth_credentials` holds for each type of authentication."""
_SCHEMES = {"http": ("http", "https"), "grpc": ("grpc", "grpcs")}


def endpoint_type(subject: Subject) -> CheckOutcome:
    """Whether agents of this kind can be run here."""
    name, endpoint = CheckName.ENDPOINT_TYPE, subject.submission.agent_endpoint
    if endpoint.endpoint_type == "grpc":
        return failed(name, "grpc: not supported yet", "give the agent an http interface")
    if endpoint.endpoint_type == "http":
        if problem := _url_problem(endpoint, subject.rules):
            return failed(name, problem, "write url as https://HOST/PATH")
    elif endpoint.source is None and _has_files(endpoint):
        return failed(name, "its directory is not known", "load it from its directory")
    return passed(name, endpoint.endpoint_type)


def _has_files(endpoint: AgentEndpoint) -> bool:
    return bool(endpoint.module_path or endpoint.archive or endpoint.dockerfile)


def _url_problem(endpoint: AgentEndpoint, rules: Rules) -> str:
    url = _split(endpoint.url or "")
    if url is None or not url.hostname or not (endpoint.url or "").isprintable():
        return f"'{one_line(endpoint.url or '', 80)}' is not a URL"
    if url.scheme not in _SCHEMES[endpoint.endpoint_type]:
        return f"{one_line(url.scheme, 20)}:// is not for an {endpoint.endpoint_type} agent"
    if url.username is not None or url.password is not None:
        return "the url holds a password: name a variable in auth_env"
    if url.fragment:
        return "the url has a fragment, which is never sent"
    if url.scheme == "http" and not rules.allow_plain_http:
        return "http:// is not allowed here (setting remote.allow_plain_http)"
    return ""


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises when it is no number
    except ValueError:
        return None
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def authentication(subject: Subject) -> CheckOutcome:
    """Whether the credentials are there that the endpoint wants, and may be sent to it."""
    name, endpoint = CheckName.AUTHENTICATION, subject.submission.agent_endpoint
    if endpoint.endpoint_type in ("local", "container"):
        return passed(name, "not needed: the agent runs here")
    problems = [
        *_consistency_problems(endpoint),
        *_variable_problems(endpoint, subject),
        *_header_problems(endpoint),
        *_clear_text_problems(endpoint),
    ]
    if not problems:
        return passed(name, _how(endpoint))
    whats, remedies = zip(*problems, strict=True)
    return failed(name, "; ".join(whats), "; ".join(dict.fromkeys(remedies)))


def _how(endpoint: AgentEndpoint) -> str:
    if endpoint.auth_type == "none":
        return "none"
    return f"{endpoint.auth_type} from {endpoint.auth_env or 'the credentials given'}"


def _consistency_problems(endpoint: AgentEndpoint) -> Iterable[tuple[str, str]]:
    kind, given = endpoint.auth_type, endpoint.auth_credentials
    if kind == "none":
        if endpoint.auth_env or given:
            yield "there are credentials, but auth_type is none", "set auth_type, or remove them"
        return
    needed = _CREDENTIAL[kind]
    secret = given[needed].get_secret_value() if needed in given else None
    if secret is None and not endpoint.auth_env:
        yield f"{kind} needs a {needed}", f"name the variable that holds the {needed} in auth_env"
    if secret is not None and endpoint.auth_env:
        yield f"the {needed} is given twice", "remove auth_env or auth_credentials"
    if secret is not None and (problem := value_problem(secret)):
        yield f"the {needed} {problem}", f"give the {needed} alone, on one line"


def _variable_problems(endpoint: AgentEndpoint, subject: Subject) -> Iterable[tuple[str, str]]:
    variable = endpoint.auth_env
    if not variable or endpoint.auth_type == "none":
        return
    shown, allowed = one_line(variable, 60), subject.rules.credential_variables
    patterns = ", ".join(allowed) or "(none)"
    if not fits(variable, allowed):
        yield (
            f"the variable {shown} may not be sent to an endpoint",
            f"name one that fits {patterns} (setting remote.credential_variables)",
        )
    elif not subject.environ.get(variable):
        yield f"the variable {shown} is not set here", f"export {shown} where the runner runs"
    elif problem := value_problem(subject.environ[variable]):
        yield f"the value of {shown} {problem}", f"set {shown} to the secret alone, on one line"


def _header_problems(endpoint: AgentEndpoint) -> Iterable[tuple[str, str]]:
    remedy = "correct agent_endpoint.headers"
    if problem := names_problem(endpoint.headers):
        yield problem, remedy
    for name, value in endpoint.headers.items():
        if problem := value_problem(value.get_secret_value()):
            yield f"the header {one_line(name, 60)} {problem}", remedy
    if endpoint.auth_type == "api_key":
        header = key_header(endpoint)
        if problem := key_name_problem(header):
            yield problem, "correct auth_header"
        if header.lower() in {name.lower() for name in endpoint.headers}:
            yield f"{one_line(header, 60)} is among the headers too", remedy


def key_header(endpoint: AgentEndpoint) -> str:
    """The header that carries an API key."""
    given = endpoint.auth_credentials.get("header")
    return given.get_secret_value() if given else endpoint.auth_header


def _clear_text_problems(endpoint: AgentEndpoint) -> Iterable[tuple[str, str]]:
    url = _split(endpoint.url or "")
    secret = endpoint.auth_type != "none" or endpoint.auth_credentials or endpoint.headers
    if secret and url and url.scheme in ("http", "grpc") and not _is_loopback(url.hostname or ""):
        yield f"credentials are not sent over {url.scheme}://", "use https://"


def endpoint_reachable(subject: Subject) -> CheckOutcome:
    """Whether the agent is there: its image builds and answers, or its host does."""
    name, reached = CheckName.ENDPOINT_REACHABLE, subject.reached
    if isinstance(reached, RunnerError):
        return unknown(name, "it cannot be told", reached)
    return passed(name, reached)
