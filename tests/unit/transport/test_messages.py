"""JSON payloads as a hostile shim would write them."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import ProtocolViolation
from runner.transport.cgroup_files import CGROUP_FILES
from runner.transport.frames import MAX_PAYLOAD
from runner.transport.messages import (
    CgroupFiles,
    Collected,
    Dialed,
    Exited,
    Failed,
    File,
    Hello,
    Message,
    Started,
    Stopped,
    identity_fields,
    parse,
)
from tests.strategies import hostile_text, json_values
from tests.unit.transport.shim_program import load

MESSAGES: list[type[Message]] = [
    *(Hello, Started, Exited, Stopped, Failed, Dialed, File, Collected, CgroupFiles)
]
HELLO = {
    "protocol": 2,
    "python": "3.11.2",
    "pid": 1,
    "identity": "Uid: 0 0 0 0",
    "mounts": [["/", "overlay", "ro"]],
    "interfaces": ["lo"],
}
EXITED = {"exit_code": 0, "signal": None, "bytes": {"1": 5}, "full": []}
FILE = {"path": "a", "size": 1}

kinds = st.sampled_from(MESSAGES)
payloads = st.one_of(
    st.binary(max_size=300),
    hostile_text.map(lambda text: text[:2000].encode("utf-8", "surrogatepass")),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.builds(
        lambda base, name, value: json.dumps(base | {name: value}).encode(),
        st.sampled_from([HELLO, EXITED, FILE, {"remaining": 0}]),
        st.sampled_from([*HELLO, *EXITED, *FILE, "remaining", "skipped"]),
        json_values,
    ),
)


@given(kinds, payloads)
def test_a_payload_is_a_message_or_a_violation(kind: type[Message], payload: bytes) -> None:
    with suppress(ProtocolViolation):
        assert isinstance(parse(kind, payload), kind)


@pytest.mark.parametrize("kind", MESSAGES)
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[" * MAX_PAYLOAD,
        b'{"a":' * 10_000,
        b'{"error": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"exit_code": ' + b"9" * 60_000 + b', "signal": null}',
        b'{"remaining": 1e999}',
        b'{"remaining": NaN}',
        b'{"error": "\\ud800", "path": "\\ud800", "size": 1}',
        b'{"path": "\xff", "size": 1}',
        b'{"path": "a", "size": -1}',
    ],
    ids=lambda value: getattr(value, "__name__", repr(value[:20])),
)
def test_what_no_shim_writes_is_refused(kind: type[Message], payload: bytes) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        parse(kind, payload)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (Exited, {"exit_code": 256}),
        (Exited, {"signal": 0}),
        (Exited, {"bytes": {"1": 2**63}}),
        (Exited, {"bytes": {str(n): 0 for n in range(11)}}),
        (Exited, {"full": ["/x"] * 21}),
        (Exited, {"more": 1}),
        (File, {"size": 2**63}),
        (File, {"path": ""}),
        (File, {"path": "x" * 20_001}),
        (Hello, {"mounts": [["/", "overlay", "ro"]] * 101}),
        (Hello, {"identity": "x" * 4001}),
    ],
)
def test_each_figure_has_bounds(kind: type[Message], change: dict[str, Any]) -> None:
    base = {Exited: EXITED, File: FILE, Hello: HELLO}[kind]
    parse(kind, json.dumps(base).encode())
    with pytest.raises(ProtocolViolation):
        parse(kind, json.dumps(base | change).encode())


def test_of_duplicate_keys_one_counts_and_is_checked() -> None:
    assert parse(File, b'{"path": "a", "size": 1, "size": 2}').size == 2
    with pytest.raises(ProtocolViolation):
        parse(File, b'{"path": "a", "size": 2, "size": -1}')


@given(hostile_text)
def test_identity_lines_never_raise(text: str) -> None:
    identity_fields(text)


def test_identity_lines() -> None:
    fields = identity_fields("Uid: 1 1 1 1\nCapEff: 00\nrubbish")
    assert fields == {"Uid": "1 1 1 1", "CapEff": "00", "rubbish": ""}


@given(json_values)
def test_the_shims_own_json_is_json(value: Any) -> None:
    shim = load()
    assert shim.from_json(json.dumps(value).encode()) == value
    if not any(isinstance(part, float) for part in parts(value)):
        assert json.loads(shim.as_json(value)) == value


def parts(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [value, *(part for item in inner for part in parts(item))]


def test_all_cgroup_files_together_fit_one_frame() -> None:
    shim = load()
    most = dict.fromkeys(CGROUP_FILES, "\n" * shim.CGROUP_FILE_BYTES)
    per_version = [name for name in most if "/" not in name], [name for name in most if "/" in name]
    for names in per_version:
        text = dict.fromkeys(names, "9" * (shim.CGROUP_FILE_BYTES - 60) + "\n" * 60)
        assert len(shim.as_json(text)) <= MAX_PAYLOAD
