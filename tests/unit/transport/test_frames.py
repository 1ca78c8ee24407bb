"""The frame parser, fed with what a hostile shim could send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import ProtocolViolation
from runner.transport.frames import (
    FROM_SHIM,
    HEADER,
    MAX_PAYLOAD,
    PROTOCOL,
    Frame,
    FrameDecoder,
    Kind,
    encode,
)
from tests.unit.transport.shim_program import load

streams = st.integers(0, 2**32 - 1)
honest_frames = st.builds(
    Frame, kind=st.sampled_from(sorted(FROM_SHIM)), payload=st.binary(max_size=200), stream=streams
)
forged_headers = st.builds(
    HEADER.pack,
    st.one_of(st.integers(0, 300), st.integers(0, 2**32 - 1)),
    st.integers(0, 255),
    streams,
)
hostile_bytes = st.lists(
    st.one_of(
        st.binary(max_size=60),
        honest_frames.map(encode),
        st.builds(lambda frame, cut: encode(frame)[:cut], honest_frames, st.integers(0, 40)),
        st.builds(lambda frame: encode(frame) * 3, honest_frames),
        forged_headers,
    ),
    max_size=12,
).map(b"".join)


def cut_up(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def parsed(chunks: list[bytes]) -> tuple[list[Frame], str | None]:
    """The frames before the first violation, and what it says."""
    decoder, frames = FrameDecoder(), []
    try:
        for chunk in chunks:
            for frame in decoder.feed(chunk):
                frames.append(frame)  # noqa: PERF402 - those before a violation count
    except ProtocolViolation as violation:
        return frames, str(violation)
    return frames, None


@given(st.lists(honest_frames, max_size=8), st.lists(st.integers(0, 10_000), max_size=20))
def test_what_a_shim_sends_arrives_however_it_is_cut(frames: list[Frame], cuts: list[int]) -> None:
    data = b"".join(map(encode, frames))
    assert parsed(cut_up(data, cuts)) == (frames, None)


@given(hostile_bytes, st.lists(st.integers(0, 10_000), max_size=20))
def test_hostile_bytes_end_the_same_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    assert parsed([data]) == parsed(cut_up(data, cuts))


@given(hostile_bytes)
def test_one_byte_at_a_time_is_no_different(data: bytes) -> None:
    assert parsed([data]) == parsed([data[i : i + 1] for i in range(len(data))])


@given(st.lists(st.one_of(st.binary(max_size=5000), hostile_bytes), max_size=30))
def test_no_more_than_a_frame_and_a_read_is_held(chunks: list[bytes]) -> None:
    decoder = FrameDecoder()
    for chunk in chunks:
        try:
            list(decoder.feed(chunk))
        except ProtocolViolation:
            return
        assert len(decoder._received) < HEADER.size + MAX_PAYLOAD


def test_a_violation_stays_one() -> None:
    decoder = FrameDecoder()
    for data in (b"\xff" * HEADER.size, encode(Frame(Kind.HELLO))):
        with pytest.raises(ProtocolViolation):
            list(decoder.feed(data))


def test_frames_before_a_violation_are_delivered_first() -> None:
    frames = FrameDecoder().feed(encode(Frame(Kind.OUTPUT, b"last words", 1)) + b"\xff" * 9)
    assert next(frames) == Frame(Kind.OUTPUT, b"last words", 1)
    with pytest.raises(ProtocolViolation):
        next(frames)


def test_the_length_is_judged_before_the_payload_is_awaited() -> None:
    with pytest.raises(ProtocolViolation, match="65537 bytes"):
        list(FrameDecoder().feed(HEADER.pack(MAX_PAYLOAD + 1, Kind.OUTPUT, 1)))
    longest = Frame(Kind.OUTPUT, b"x" * MAX_PAYLOAD, 1)
    assert list(FrameDecoder().feed(encode(longest))) == [longest]


@pytest.mark.parametrize("number", sorted(set(range(256)) - set(FROM_SHIM)))
def test_every_number_that_no_shim_sends_is_refused(number: int) -> None:
    with pytest.raises(ProtocolViolation):
        list(FrameDecoder().feed(HEADER.pack(0, number, 0)))


def test_the_shim_has_the_same_numbers() -> None:
    shim = load()
    assert {kind.name: kind.value for kind in Kind} == {
        kind.name: getattr(shim, kind.name) for kind in Kind
    }
    assert shim.PROTOCOL == PROTOCOL
    assert shim.HEADER.format == HEADER.format
    assert shim.MAX_PAYLOAD == MAX_PAYLOAD
    assert max(shim.READ_BYTES, 0) <= MAX_PAYLOAD, "what is read once is sent in one frame"
