"""From bytes to a Reply: caps, totals, cuts at character boundaries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain import Ending, EndingKind
from runner.transport.messages import Exited
from runner.transport.replies import (
    ANSWER,
    STDERR,
    STDOUT,
    TRUNCATION_MARKER,
    Answer,
    Heard,
    cut,
    decode,
    exited,
    make_reply,
    server_exited,
)

ANSWERED = Ending(kind=EndingKind.ANSWERED, exit_code=0)
CAPS = {STDOUT: 10, STDERR: 5, ANSWER: 3}


@given(st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=20))))
def test_no_stream_is_kept_beyond_its_cap(said: list[tuple[int, bytes]]) -> None:
    heard = Heard(caps=dict(CAPS))
    for stream, data in said:
        heard.add(stream, data)
    for stream, cap in CAPS.items():
        whole = b"".join(data for number, data in said if number == stream)
        assert heard.parts[stream] == whole[:cap]
    assert set(heard.parts) == set(CAPS)


def test_totals_are_the_larger_of_told_and_heard() -> None:
    heard = Heard(caps=dict(CAPS))
    heard.add(STDOUT, b"12345678")
    heard.account(
        Exited.model_validate({"exit_code": 0, "signal": None, "bytes": {"1": 3, "2": 9}})
    )
    assert [heard.total(stream) for stream in (STDOUT, STDERR, ANSWER)] == [8, 9, 0]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), st.integers(1, 200))
def test_a_cut_answer_is_text_within_the_cap(text: str, cap: int) -> None:
    data = text.encode()
    reply = make_reply(Answer(ANSWERED, data, len(data)), Heard(caps=dict(CAPS)), cap, 0.0)
    assert reply.ending.kind is EndingKind.ANSWERED
    assert len(reply.output.encode()) <= cap
    assert reply.output_truncated == (len(data) > cap)
    if not reply.output_truncated:
        assert reply.output == text
    elif cap >= len(TRUNCATION_MARKER):
        assert reply.output.endswith(TRUNCATION_MARKER)
        assert text.startswith(reply.output.removesuffix(TRUNCATION_MARKER))


@given(st.binary(max_size=100), st.integers(1, 100))
def test_any_bytes_make_a_reply_within_the_cap(data: bytes, cap: int) -> None:
    reply = make_reply(Answer(ANSWERED, data, len(data)), Heard(caps=dict(CAPS)), cap, 0.0)
    assert reply.ending.kind in (EndingKind.ANSWERED, EndingKind.INVALID_OUTPUT)
    if reply.ending.kind is EndingKind.ANSWERED and not reply.output_truncated:
        assert reply.output.encode() == data


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_half_a_character_is_invalid_only_if_the_answer_ends_there(keep: int) -> None:
    data = "a\U0001f600".encode()[: 1 + keep]
    assert decode(data, complete=False) == ("a", True)
    assert decode(data, complete=True)[1] is False


def test_a_lone_surrogate_is_not_text() -> None:
    assert decode(b"\xed\xa0\x80", complete=True) == ("\ufffd" * 3, False)


def test_a_cap_shorter_than_the_marker() -> None:
    assert cut("x" * 100, 5) == TRUNCATION_MARKER[:5]


@pytest.mark.parametrize(
    ("exit_code", "signal", "kind", "detail"),
    [
        (0, None, EndingKind.ANSWERED, ""),
        (3, None, EndingKind.CRASHED, "the agent exited with status 3"),
        (None, 9, EndingKind.CRASHED, "the agent was killed by SIGKILL"),
        (None, 70, EndingKind.CRASHED, "the agent was killed by signal 70"),
    ],
)
def test_an_exit_status_as_an_ending(
    exit_code: int | None, signal: int | None, kind: EndingKind, detail: str
) -> None:
    message = Exited(exit_code=exit_code, signal=signal)
    assert exited(message) == Ending(kind=kind, detail=detail, exit_code=exit_code, signal=signal)
    assert server_exited(message).kind is EndingKind.CRASHED
    assert server_exited(message).detail
