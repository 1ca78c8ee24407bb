"""The same requests get the same answers again; the first other one is shown beside its place."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain import Divergence
from runner.gateway.calls import Exchange
from runner.gateway.differences import first_difference, side_by_side
from runner.gateway.exchanges import digest_of
from runner.gateway.replay import Recording


def asked(text: str) -> dict[str, Any]:
    return {"api": "/v1/chat/completions", "body": {"messages": [{"content": text}]}}


def exchange(number: int, request: dict[str, Any], kind: str = "model", **more: Any) -> Exchange:
    return Exchange(
        number=number,
        kind=kind,
        digest=digest_of(request),
        request=request,
        status=200,
        chunks=(f"answer {number}",),
        **more,
    )


def test_the_same_requests_get_the_same_answers_in_any_order():
    recorded = [exchange(n, asked(text)) for n, text in enumerate("abc", 1)]
    for order in itertools.permutations(recorded):
        recording = Recording(recorded)
        taken = [recording.take(n, "model", each.request) for n, each in enumerate(order, 1)]
        assert taken == list(order)
        assert (recording.divergence, recording.unused()) == (None, [])


def test_equal_requests_get_their_answers_in_the_order_of_their_arrival():
    # The file has them in the order in which they ended.
    recording = Recording(
        [exchange(3, asked("a")), exchange(1, asked("a")), exchange(2, asked("b"))]
    )
    taken = [recording.take(n, "model", asked("a")) for n in (1, 2)]
    assert [each and each.number for each in taken] == [1, 3]


def test_a_request_once_more_than_recorded_diverges():
    recording = Recording([exchange(1, asked("a")), exchange(2, asked("b"))])
    assert recording.take(1, "model", asked("a"))
    assert recording.take(2, "model", asked("a")) is None
    assert recording.divergence == Divergence(number=2, recorded=asked("b"), requested=asked("a"))


def test_only_the_first_divergence_is_kept_and_the_rest_is_answered():
    recording = Recording([exchange(1, asked("a")), exchange(2, asked("b"))])
    assert recording.take(1, "model", asked("x")) is None
    assert recording.take(2, "model", asked("y")) is None
    assert recording.take(3, "model", asked("b"))
    assert recording.divergence == Divergence(number=1, recorded=asked("a"), requested=asked("x"))
    assert [each.number for each in recording.unused()] == [1]


def test_a_request_after_the_end_of_the_recording_has_nothing_beside_it():
    recording = Recording([])
    assert recording.take(1, "tool", {"name": "clock", "arguments": {}}) is None
    assert recording.divergence is not None
    assert recording.divergence.recorded is None


def test_a_tool_call_is_not_answered_from_a_model_call_with_the_same_request():
    recording = Recording([exchange(1, asked("a"), kind="model")])
    assert recording.take(1, "tool", asked("a")) is None
    assert recording.take(2, "model", asked("a"))


def test_what_was_refused_is_not_replayed():
    recording = Recording([exchange(1, asked("a"), refused="budget_exceeded")])
    assert recording.take(1, "model", asked("a")) is None
    assert recording.unused() == []


def test_a_divergence_can_be_written_into_a_result_whatever_it_holds():
    recording = Recording([exchange(1, asked("\ud800"))])
    recording.take(1, "model", asked("\udfff\x1b[2J"))
    assert recording.divergence is not None
    assert Divergence.model_validate_json(recording.divergence.model_dump_json())


def test_a_divergence_of_any_depth_can_be_written_and_read_again():
    deep = {"a": json.loads("[" * 900 + "]" * 900)}
    recording = Recording([exchange(1, deep)])
    recording.take(1, "model", {"a": deep})
    assert recording.divergence is not None
    written = recording.divergence.model_dump_json()
    assert Divergence.model_validate_json(written) == recording.divergence
    assert "deeper than a result can show" in written


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_each_exchange_is_answered_from_once(recorded, requested):
    recording = Recording([exchange(n, asked(text)) for n, text in enumerate(recorded, 1)])
    taken = [recording.take(n, "model", asked(text)) for n, text in enumerate(requested, 1)]
    found = [each.number for each in taken if each]
    assert len(found) == len(set(found)) == len(recorded) - len(recording.unused())
    for text in "abc":
        served = sum(1 for each in taken if each and each.request == asked(text))
        assert served == min(recorded.count(text), requested.count(text))
    assert (recording.divergence is None) == all(taken)


# -- the first difference, on one line ------------------------------------------------------------


@pytest.mark.parametrize(
    ("recorded", "requested", "said"),
    [
        ({"a": 1}, {"a": 1}, ""),
        ({"a": 1}, {"a": 2}, "a: recorded 1, requested 2"),
        ({"a": 1}, {"a": True}, "a: recorded 1, requested true"),
        ({"a": 1}, {"a": 1.0}, "a: recorded 1, requested 1.0"),
        ({"a": 1}, {}, "a: recorded 1, requested (absent)"),
        ({}, {"a": None}, "a: recorded (absent), requested null"),
        ({"a": [1, 2]}, {"a": [1]}, "a[1]: recorded 2, requested (absent)"),
        ({"a": {"b": 1}}, {"a": [1]}, "a: recorded an object of 1 fields, requested a list of 1"),
        ({"b": 1, "a": 1}, {"b": 2, "a": 2}, "a: recorded 1, requested 2"),
        (asked("x"), asked("y"), 'body.messages[0].content: recorded "x", requested "y"'),
        ({"\n": 1}, {"\n": 2}, "\\n: recorded 1, requested 2"),
        ({"a": "\x1b[2J"}, {"a": "\ud800"}, 'a: recorded "\\x1b[2J", requested "\\ud800"'),
    ],
)
def test_the_first_difference_is_named_with_both_values(recorded, requested, said):
    assert first_difference(recorded, requested) == said


def test_a_long_text_is_shown_from_shortly_before_its_difference():
    said = first_difference({"a": "x" * 5_000 + "old"}, {"a": "x" * 5_000 + "new"})
    assert said == (
        f'a: recorded ..."{"x" * 20}old", requested ..."{"x" * 20}new" (from character 5001 on)'
    )


def test_the_first_difference_of_huge_and_deep_requests_is_one_short_line():
    deep: Any = json.loads("[" * 900 + "1" + "]" * 900)
    wide = {str(n): "x" * 50 for n in range(20_000)}
    for recorded, requested in [
        ({"a": deep}, {"a": [deep]}),
        (wide, wide | {"5": "y" * 10**6}),
        ({"k" * 10**6: 1}, {"k" * 10**6: 2}),
    ]:
        said = first_difference(recorded, requested)
        assert said
        assert said.isprintable()
        assert len(said) < 600


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text(st.characters(), max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(st.characters(), max_size=2), VALUES, max_size=4)


@given(OBJECTS, OBJECTS)
def test_there_is_a_first_difference_where_the_digests_differ_and_nowhere_else(one, other):
    assert bool(first_difference(one, other)) == (digest_of(one) != digest_of(other))
    assert first_difference(one, other).isprintable()


# -- beside each other ----------------------------------------------------------------------------


def diverged(recorded: dict[str, Any] | None, requested: dict[str, Any]) -> Divergence:
    return Divergence(number=1, recorded=recorded, requested=requested)


def test_both_requests_stand_beside_each_other():
    rows = side_by_side(diverged({"a": 1, "b": [2, 3]}, {"a": 1, "b": [2, 4], "c": {}}), 80)
    assert rows == [
        ('  "a": 1', '  "a": 1'),
        ('  "b": [', '  "b": ['),
        ("    2", "    2"),
        ("    3", "    4"),
        ("  ]", "  ]"),
        ("", '  "c": {}'),
        ("}", "}"),
    ]


def test_where_nothing_was_recorded_the_left_is_empty():
    assert side_by_side(diverged(None, {"a": 1}), 80) == [("", "{"), ("", '  "a": 1'), ("", "}")]


def test_many_lines_alike_between_two_differences_are_left_out():
    alike = {f"m{n:03}": n for n in range(50)}
    rows = side_by_side(diverged({"a": 1, **alike, "z": 1}, {"a": 2, **alike, "z": 2}), 80)
    assert ("... 44 lines alike", "... 44 lines alike") in rows
    assert len(rows) < 15


def test_a_long_line_is_shown_from_shortly_before_its_difference():
    (row,) = [
        row
        for row in side_by_side(diverged(asked("x" * 500 + "old"), asked("x" * 500 + "new")), 60)
        if row[0] != row[1]
    ]
    assert row[0].endswith('old"')
    assert row[1].endswith('new"')


@given(OBJECTS, OBJECTS, st.integers(0, 120))
def test_no_line_is_wider_than_its_half_or_steers_a_terminal(one, other, width):
    for row in side_by_side(diverged(one, other), width):
        for line in row:
            assert line.isprintable()
            assert len(line) <= max((width - 3) // 2, 10)


@given(OBJECTS, OBJECTS)
def test_what_differs_is_shown(one, other):
    rows = side_by_side(diverged(one, other), 400)
    assert any(left != right for left, right in rows) == (digest_of(one) != digest_of(other))


def test_huge_deep_and_uniform_requests_make_few_lines():
    deep: Any = json.loads("[" * 900 + "1," * 10_000 + "1" + "]" * 900)
    uniform = {"a": [0] * 100_000}
    for recorded, requested in [
        ({"a": deep}, {"a": [deep]}),
        (uniform, {"a": [1] + [0, 1] * 50_000}),
        ({"a": "x" * 4_000_000}, {"a": "x" * 3_999_999 + "y"}),
    ]:
        rows = side_by_side(diverged(recorded, requested), 120)
        assert 0 < len(rows) < 500
