"""`agenttrace trace` and `runs diff` on a real run directory and a real receiver."""

from __future__ import annotations

import gzip
import http.server
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.unit.records.calls import KEY, calling, model_call, recorded_run
from tests.unit.records.nouns import RUN_ID
from tests.unit.records.test_compare import made

from .conftest import Outcome

Agenttrace = Callable[..., Outcome]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    recorded_run(root)
    return root


# -- show ----------------------------------------------------------------------------------------


def test_show_tells_of_calls(agenttrace: Agenttrace, runs: Path) -> None:
    shown = agenttrace("trace", "show", RUN_ID, "calling", "-o", str(runs))
    assert shown.code == 0
    lines = shown.out.splitlines()
    [first, third] = [line for line in lines if "chat gpt-4o-mini" in line and "tokens" in line]
    assert "12+3 tokens" in first
    assert "$0.000125" in first
    assert "tool_calls" in first
    assert "streamed" in third
    assert 'calls calculator({"expression":"6*7"})' in shown.out
    assert "(2 messages as in the call before)" in shown.out, "nothing is told twice"
    assert shown.out.count("What is 6*7?") == 1


def test_show_makes_hostile_calls_inert(agenttrace: Agenttrace, runs: Path) -> None:
    shown = agenttrace("trace", "show", RUN_ID, "hostile", "-o", str(runs))
    assert shown.code == 0
    for hostile in ("\x1b", "\u202e", "\x07", KEY):
        assert hostile not in shown.out
    assert "\\x1b[31mevil\\u202e" in shown.out
    for mark in ("refused: budget_exceeded", "cached", "aborted", "2 retries", "cost unknown"):
        assert mark in shown.out.replace("\n", " "), mark


def test_show_as_data(agenttrace: Agenttrace, runs: Path) -> None:
    shown = agenttrace("trace", "show", RUN_ID, "calling", "-o", str(runs), "--json")
    assert (
        sum("agenttrace.call.number" in each["attributes"] for each in json.loads(shown.out)) == 3
    )


# -- export --------------------------------------------------------------------------------------


def export(agenttrace: Agenttrace, runs: Path, *more: str) -> Outcome:
    return agenttrace("trace", "export", RUN_ID, "--runs-dir", str(runs), *more)


def test_one_thing_goes_to_stdout(agenttrace: Agenttrace, runs: Path) -> None:
    log = json.loads(export(agenttrace, runs, "--to", "inspect").out)
    assert (log["version"], len(log["samples"])) == (2, 7)
    shown = export(agenttrace, runs, "--to", "atif", "--task", "calling", "--repeat", "1")
    assert json.loads(shown.out)["schema_version"] == "ATIF-v1.8"
    assert shown.err == ""
    lines = export(agenttrace, runs, "--to", "otlp").out.splitlines()
    assert len([json.loads(line) for line in lines]) == 7


def test_several_trajectories_are_lines_or_files(agenttrace: Agenttrace, runs: Path) -> None:
    lines = export(agenttrace, runs, "--to", "atif").out.splitlines()
    assert len([json.loads(line) for line in lines]) == 7
    shown = export(agenttrace, runs, "--to", "atif", "-o", "trajectories")
    assert shown.code == 0
    assert len(list(Path("trajectories").iterdir())) == 7
    assert json.loads(Path("trajectories/calling.1-2.atif.json").read_text())["steps"]
    assert "wrote trajectories/calling.1-2.atif.json" in shown.err


def test_one_file_is_called_as_asked_and_replaced(agenttrace: Agenttrace, runs: Path) -> None:
    Path("log.json").write_text("old")
    assert export(agenttrace, runs, "--to", "inspect", "-o", "log.json").code == 0
    assert json.loads(Path("log.json").read_text())["version"] == 2
    Path("there").mkdir()
    shown = export(agenttrace, runs, "--to", "inspect", "-o", "there", "--json")
    assert json.loads(shown.out) == {"files": [f"there/{RUN_ID}.json"]}
    assert Path(f"there/{RUN_ID}.json").exists()


@pytest.mark.parametrize(
    ("more", "code", "complaint"),
    [
        (("--to", "atif", "--task", "none"), 2, "no such attempt"),
        (("--to", "html"), 2, "html"),
        ((), 2, "--to"),
        (("--to", "otlp", "-o", "no/such/place"), 3, "cannot write"),
    ],
)
def test_export_says_what_is_wrong(
    agenttrace: Agenttrace, runs: Path, more: tuple[str, ...], code: int, complaint: str
) -> None:
    shown = export(agenttrace, runs, *more)
    assert shown.code == code
    assert complaint in shown.err
    assert shown.out == ""


# -- push ----------------------------------------------------------------------------------------


def test_push_sends_all_of_a_run(
    agenttrace: Agenttrace, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[tuple[str | None, str | None, int]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
            traces = len(ExportTraceServiceRequest.FromString(body).resource_spans)
            got.append((self.headers["x-one"], self.headers["x-two"], traces))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-one=a,x-two=b")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        shown = agenttrace("trace", "push", url, RUN_ID, "--header", "x-two=c", "-o", str(runs))
        data = agenttrace("trace", "push", url, RUN_ID, "-t", "quiet", "-o", str(runs), "--json")
        server.shutdown()
        thread.join()
    assert got == [("a", "c", 7), ("a", "b", 1)]
    assert shown.out == "sent 7 traces in 1 requests\n"
    assert json.loads(data.out)["traces"] == 1


def test_push_says_what_is_wrong(agenttrace: Agenttrace, runs: Path) -> None:
    for line, complaint in (
        (("localhost", RUN_ID), "not the URL"),
        (("http://localhost", RUN_ID, "--header", "x"), "NAME=VALUE"),
        (("http://localhost", "none"), "no run"),
    ):
        shown = agenttrace("trace", "push", *line, "-o", str(runs))
        assert shown.code == 2
        assert complaint in shown.err


# -- runs diff -----------------------------------------------------------------------------------


def test_diff_of_the_same(agenttrace: Agenttrace, tmp_path: Path) -> None:
    made(tmp_path, "one")
    made(tmp_path, "two")
    shown = agenttrace("runs", "diff", "one", "two", "-o", str(tmp_path))
    assert shown.code == 0
    assert "same status, score and answer of every task" in shown.out


def test_diff_of_two_that_differ(agenttrace: Agenttrace, tmp_path: Path) -> None:
    packages = {f"package{n}": "1" for n in range(40)}
    evil = model_call(1, model="\x1b[31mevil")
    made(tmp_path, "one", environment={"kernel": "6.1"})
    made(
        tmp_path,
        "two",
        calling(output="41", model_calls=(evil,)),
        environment={"kernel": "6.2", "packages": packages},
    )
    shown = agenttrace("runs", "diff", "one", "two", "-o", str(tmp_path))
    assert shown.code == 1
    for told in ("kernel", "'6.2'", "and 32 more", "differs", "call 1 differs", "\\x1b[31mevil"):
        assert told in shown.out, told
    assert "\x1b" not in shown.out
    assert "1 of 1 tasks differ in what counts" in shown.out
    data = agenttrace("runs", "diff", "one", "two", "-o", str(tmp_path), "--json")
    assert data.code == 1
    assert json.loads(data.out)["same"] is False


def test_diff_of_what_is_not_there(agenttrace: Agenttrace, tmp_path: Path) -> None:
    made(tmp_path, "one")
    shown = agenttrace("runs", "diff", "one", "two", "-o", str(tmp_path))
    assert (shown.code, shown.out) == (2, "")
