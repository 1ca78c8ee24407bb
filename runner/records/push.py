"""Sends traces to an OpenTelemetry receiver: OTLP over HTTP, in protobuf."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import tenacity
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from runner.domain.base import Noun
from runner.domain.text import one_line
from runner.errors import PushFailed, StorageFailed, UsageError

TRACES_PATH = "/v1/traces"
_TRANSIENT = frozenset({429, 502, 503, 504})
"""https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes"""
_IDS = ("traceId", "spanId", "parentSpanId")
_BATCH_BYTES = 4 * 2**20
"""Of a request before it is compressed: what receivers take by default. A larger trace is sent
alone."""
_ANSWER_BYTES = 64 * 2**10


class Patience(Noun):
    """How long a receiver is asked."""

    attempts: int = 5
    timeout_seconds: float = 30.0
    """Of one request."""
    first_pause_seconds: float = 0.5
    longest_pause_seconds: float = 30.0
    """Also where the receiver asks for more."""


class Pushed(Noun):
    """What a receiver took."""

    traces: int
    requests: int
    rejected_spans: int = 0
    messages: tuple[str, ...] = ()
    """What the receiver says of them, or of what it took; each is one inert line."""


class _Transient(Exception):
    """The receiver asks to be asked again, or did not answer."""

    def __init__(self, message: str, pause_seconds: float | None = None) -> None:
        super().__init__(message)
        self.pause_seconds = pause_seconds


def push_traces(
    url: str,
    traces: Iterable[Path],
    headers: Mapping[str, str],
    patience: Patience = Patience(),  # noqa: B008 - frozen
) -> Pushed:
    """Sends trace files; `url` is a receiver's base, or its whole address ending in `/v1/traces`.

    Raises UsageError for a URL that is none, StorageFailed for a damaged trace, PushFailed.
    """
    target = _target(url)
    messages: list[str] = []
    sent = requests = rejected = 0
    try:
        sender = httpx.Client(timeout=patience.timeout_seconds, headers=dict(headers))
    except (UnicodeEncodeError, ValueError) as error:
        raise UsageError("a header is not plain text", remedy="--header NAME=VALUE") from error
    with sender:
        for batch, count in _batches(traces):
            answer = _send(sender, target, batch, patience)
            sent, requests = sent + count, requests + 1
            rejected += answer.partial_success.rejected_spans
            if answer.partial_success.error_message:
                messages.append(one_line(answer.partial_success.error_message))
    return Pushed(traces=sent, requests=requests, rejected_spans=rejected, messages=tuple(messages))


def _target(url: str) -> str:
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        right = False
    if not right:
        raise UsageError(
            f"{url!r} is not the URL of a receiver", remedy="such as http://localhost:4318"
        )
    path = parts.path.rstrip("/")
    path = path if path.endswith(TRACES_PATH) else path + TRACES_PATH
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


# -- what is sent --------------------------------------------------------------------------------


def _batches(traces: Iterable[Path]) -> Iterator[tuple[bytes, int]]:
    """Requests, and how many traces are in each."""
    parts: list[bytes] = []
    for path in traces:
        request = _request(path)
        if parts and sum(map(len, parts)) + len(request) > _BATCH_BYTES:
            yield b"".join(parts), len(parts)
            parts = []
        parts.append(request)
    if parts:
        yield b"".join(parts), len(parts)


def _request(path: Path) -> bytes:
    """A trace file as a request: protobuf joins messages that are written one after another."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageFailed(f"cannot read {path}: {reason}") from error
    try:
        return b"".join(_parsed(line) for line in lines if line.strip())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = type(error).__name__
        raise StorageFailed(f"{path} is not an OTLP-JSON trace ({what})") from error


def _parsed(line: bytes) -> bytes:
    data: Any = json.loads(line)
    for resource in data["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                _use_base64(span)
    request = ExportTraceServiceRequest()
    json_format.ParseDict(data, request)
    return request.SerializeToString()


def _use_base64(span: dict[str, Any]) -> None:
    """Protobuf's own JSON has base64 where OTLP-JSON has hex."""
    for name in _IDS:
        if name in span:
            span[name] = base64.b64encode(bytes.fromhex(span[name])).decode("ascii")


# -- how it is sent ------------------------------------------------------------------------------


def _send(
    sender: httpx.Client, target: str, batch: bytes, patience: Patience
) -> ExportTraceServiceResponse:
    again = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(patience.attempts),
        retry=tenacity.retry_if_exception_type(_Transient),
        wait=lambda state: _pause(state, patience),
        reraise=True,
    )
    try:
        return again(_post, sender, target, gzip.compress(batch))
    except _Transient as error:
        raise PushFailed(
            f"{_named(target)} did not take the traces: {error}",
            remedy="check that the receiver runs and takes OTLP over HTTP, then push again",
        ) from error


def _pause(state: tenacity.RetryCallState, patience: Patience) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.pause_seconds if isinstance(error, _Transient) else None
    first = patience.first_pause_seconds
    backoff = tenacity.wait_exponential(multiplier=first) + tenacity.wait_random(0, first / 2)
    return min(backoff(state) if asked is None else asked, patience.longest_pause_seconds)


def _post(sender: httpx.Client, target: str, body: bytes) -> ExportTraceServiceResponse:
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
    try:
        with sender.stream("POST", target, content=body, headers=headers) as response:
            answer = _answer(response)
    except httpx.TransportError as error:
        raise _Transient(one_line(str(error)) or type(error).__name__) from error
    if response.status_code in _TRANSIENT:
        pause = _retry_after(response.headers.get("Retry-After", ""))
        raise _Transient(f"it answered {response.status_code}", pause)
    if not response.is_success:
        said = one_line(answer, 200)
        raise PushFailed(
            f"{_named(target)} answered {response.status_code}{': ' + said if said else ''}",
            remedy="check the URL and the headers that the receiver wants (--header NAME=VALUE)",
        )
    return _understood(answer)


def _answer(response: httpx.Response) -> bytes:
    answer = b""
    for chunk in response.iter_bytes():
        answer += chunk
        if len(answer) > _ANSWER_BYTES:
            break
    return answer[:_ANSWER_BYTES]


def _understood(answer: bytes) -> ExportTraceServiceResponse:
    """What a receiver says; one that took all may say nothing, or what we cannot read."""
    try:
        return ExportTraceServiceResponse.FromString(answer)
    except DecodeError:
        return ExportTraceServiceResponse()


def _retry_after(header: str) -> float | None:
    """Seconds; None where the header says none."""
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except (TypeError, ValueError):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max((aware - datetime.now(UTC)).total_seconds(), 0.0)


def _named(target: str) -> str:
    """The receiver as an error may name it: without what its URL holds of secrets."""
    parts = urlsplit(target)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def parse_headers(given: Sequence[str], environment: str = "") -> dict[str, str]:
    """`NAME=VALUE` each; `environment` is what OTEL_EXPORTER_OTLP_HEADERS holds, which they win
    over. Raises UsageError.
    """
    pairs = [each for each in environment.split(",") if each.strip()]
    headers = {}
    for each in (*pairs, *given):
        name, equals, value = each.partition("=")
        if not equals or not name.strip():
            raise UsageError(
                f"a header must be NAME=VALUE, not {one_line(name, 50)!r}",
                remedy="such as --header authorization='Bearer ...'",
            )
        headers[name.strip().lower()] = value.strip()
    return headers
