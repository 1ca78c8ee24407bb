"""Traces reach a real receiver over HTTP, whole, once, and what it says is told."""

from __future__ import annotations

import gzip
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from runner.domain.trace import trace_id_of
from runner.errors import PushFailed, StorageFailed, UsageError
from runner.records import push
from runner.records.push import Patience, parse_headers, push_traces
from tests.unit.records.calls import recorded_run
from tests.unit.records.nouns import RUN_ID

QUICK = Patience(first_pause_seconds=0.01, timeout_seconds=5)
Answer = tuple[int, dict[str, str], bytes]
TAKEN: Answer = (200, {}, b"")


@dataclass
class Receiver:
    """What a receiver got, and what it is to answer; the last answer is repeated."""

    url: str = ""
    answers: list[Answer] = field(default_factory=lambda: [TAKEN])
    requests: list[tuple[str, dict[str, str], ExportTraceServiceRequest]] = field(
        default_factory=list
    )

    def spans(self) -> list[str]:
        return [
            span.trace_id.hex()
            for _, _, request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    state = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Encoding"] == "gzip"
            request = ExportTraceServiceRequest.FromString(gzip.decompress(body))
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.requests.append((self.path, headers, request))
            answers = state.answers
            status, more, answer = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture
def traces(tmp_path: Path) -> list[Path]:
    return sorted((recorded_run(tmp_path) / "tasks").glob("*/*/trace.otlp.jsonl"))


@pytest.mark.parametrize("path", ["", "/", "/v1/traces", "/collect", "/collect/v1/traces"])
def test_all_spans_arrive_in_protobuf(receiver: Receiver, traces: list[Path], path: str) -> None:
    pushed = push_traces(receiver.url + path, traces, {"x-team": "us"}, QUICK)
    assert (pushed.traces, pushed.requests, pushed.rejected_spans) == (len(traces), 1, 0)
    [(where, headers, request)] = receiver.requests
    assert where == ("/collect/v1/traces" if "collect" in path else "/v1/traces")
    assert headers["content-type"] == "application/x-protobuf"
    assert headers["x-team"] == "us"
    assert trace_id_of(RUN_ID, "calling", 1, 2) in receiver.spans()
    assert len(set(receiver.spans())) == len(traces)
    [service, *_] = request.resource_spans[0].resource.attributes
    assert service.value.string_value == "agenttrace-runner"


def test_much_is_sent_in_several_requests(
    receiver: Receiver, traces: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "_BATCH_BYTES", 8000)
    pushed = push_traces(receiver.url, traces, {}, QUICK)
    assert 1 < pushed.requests == len(receiver.requests)
    assert len(set(receiver.spans())) == pushed.traces == len(traces)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_receiver_that_cannot_now_is_asked_again(
    receiver: Receiver, traces: list[Path], status: int
) -> None:
    past = formatdate(0, usegmt=True)
    receiver.answers = [
        (status, {"Retry-After": "0"}, b"later"),
        (status, {"Retry-After": past}, b"later"),
        (status, {"Retry-After": "soon"}, b"later"),
        TAKEN,
    ]
    assert push_traces(receiver.url, traces, {}, QUICK).requests == 1
    assert len(receiver.requests) == 4


def test_a_pause_that_is_asked_for_is_kept_to_and_bounded() -> None:
    assert push._retry_after("7") == 7.0
    assert push._retry_after(formatdate(0, usegmt=True)) == 0.0
    assert push._retry_after("soon") is None
    assert push._retry_after("") is None


def test_one_that_never_can_is_an_error_that_names_it(
    receiver: Receiver, traces: list[Path]
) -> None:
    receiver.answers = [(503, {"Retry-After": "9999"}, b"")]
    impatient = Patience(attempts=2, longest_pause_seconds=0.01)
    with pytest.raises(PushFailed, match=r"127\.0\.0\.1.*did not take the traces.*503"):
        push_traces(receiver.url.replace("http://", "http://me:s3cr3t@"), traces, {}, impatient)
    assert len(receiver.requests) == 2


def test_a_refusal_is_final_and_tells_why(receiver: Receiver, traces: list[Path]) -> None:
    receiver.answers = [(401, {}, b"no token\x1b[31m" + b"x" * 10**6)]
    with pytest.raises(PushFailed, match=r"answered 401: no token\\x1b") as raised:
        push_traces(receiver.url, traces, {}, QUICK)
    assert len(receiver.requests) == 1
    assert len(raised.value.message) < 400


def test_a_redirect_is_not_followed(receiver: Receiver, traces: list[Path]) -> None:
    receiver.answers = [(307, {"Location": f"{receiver.url}/elsewhere"}, b"")]
    with pytest.raises(PushFailed, match="307"):
        push_traces(receiver.url, traces, {"authorization": "Bearer x"}, QUICK)
    assert len(receiver.requests) == 1


def test_what_is_rejected_is_told(receiver: Receiver, traces: list[Path]) -> None:
    partly = ExportTraceServiceResponse()
    partly.partial_success.rejected_spans = 3
    partly.partial_success.error_message = "too old\x07"
    receiver.answers = [(200, {}, partly.SerializeToString())]
    pushed = push_traces(receiver.url, traces, {}, QUICK)
    assert (pushed.rejected_spans, pushed.messages) == (3, ("too old\\x07",))
    receiver.answers = [(200, {}, b"\xff not protobuf")]
    assert push_traces(receiver.url, traces, {}, QUICK).rejected_spans == 0


def test_nobody_there(traces: list[Path]) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as gone:
        port = gone.server_address[1]
    with pytest.raises(PushFailed, match="did not take"):
        push_traces(f"http://127.0.0.1:{port}", traces, {}, Patience(attempts=1))


@pytest.mark.parametrize(
    "url", ["", "localhost:4318", "ftp://x", "http://", "http://[", "http://x:y"]
)
def test_what_is_no_url_of_a_receiver(url: str) -> None:
    with pytest.raises(UsageError, match="not the URL"):
        push_traces(url, [], {})


def test_a_damaged_trace_is_named(receiver: Receiver, tmp_path: Path) -> None:
    path = tmp_path / "trace.otlp.jsonl"
    for text in ("{", "[]", '{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"zz"}]}]}]}'):
        path.write_text(text)
        with pytest.raises(StorageFailed, match="not an OTLP-JSON trace"):
            push_traces(receiver.url, [path], {}, QUICK)
    with pytest.raises(StorageFailed, match="cannot read"):
        push_traces(receiver.url, [tmp_path / "none"], {}, QUICK)


def test_headers() -> None:
    given = parse_headers(["Authorization=Bearer a=b"], "x-a=1, authorization=old,")
    assert given == {"x-a": "1", "authorization": "Bearer a=b"}
    for wrong in ("nothing", "=value"):
        with pytest.raises(UsageError, match="NAME=VALUE"):
            parse_headers([wrong])
    with pytest.raises(UsageError, match="plain text"):
        push_traces("http://127.0.0.1:1", [], {"x": "\u2028"})


def test_who_does_not_push_loads_nothing_for_it() -> None:
    code = (
        "import sys, runner.records, runner.records.exports, runner.records.compare;"
        "print([n for n in ('httpx', 'google.protobuf', 'opentelemetry') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "[]\n"
