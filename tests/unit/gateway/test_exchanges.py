"""Each exchange is kept whole, whatever bytes it holds, and a damaged file says where."""

from __future__ import annotations

import errno
import json
import os
import stat
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import StorageFailed, UsageError
from runner.gateway import exchanges
from runner.gateway.calls import Exchange
from runner.gateway.exchanges import ExchangeLog, canonical_json, digest_of, load_exchanges
from runner.gateway.replay import Recording

ANY_TEXT = st.text(st.characters(), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)
REQUESTS = st.dictionaries(ANY_TEXT, JSON, max_size=5)


def exchange(number: int = 1, **fields: object) -> Exchange:
    request = fields.pop("request", {"api": "/v1/chat/completions", "body": {"n": number}})
    return Exchange(
        number=number,
        kind="model",
        digest=digest_of(request),
        request=request,
        status=200,
        **fields,
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "exchanges.jsonl"


def written(path, *exchanges):
    log = ExchangeLog(path)
    for each in exchanges:
        log.write(each)
    log.close()
    return path


def test_the_digest_is_that_of_sorted_json_without_spaces():
    assert canonical_json({"b": [1, 2.5, None], "a": {"ü": True}}) == (
        '{"a":{"ü":true},"b":[1,2.5,null]}'.encode()
    )
    assert digest_of({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@given(REQUESTS)
def test_the_digest_does_not_depend_on_the_order_of_keys(request_):
    backwards = dict(reversed(request_.items()))
    assert digest_of(request_) == digest_of(backwards)


@given(REQUESTS, REQUESTS)
def test_only_equal_requests_have_equal_digests(one, other):
    assert (digest_of(one) == digest_of(other)) == (
        json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    )


def test_one_and_true_and_a_surrogate_and_its_escape_are_told_apart():
    values = [1, 1.0, True, "1", "\ud800", "\\ud800", "?"]
    assert len({digest_of({"x": value}) for value in values}) == len(values)


@given(REQUESTS, st.lists(ANY_TEXT, max_size=4))
def test_what_is_written_is_read_again(tmp_path_factory, request_, chunks):
    path = tmp_path_factory.mktemp("log") / "exchanges.jsonl"
    kept = [exchange(number, request=request_, chunks=tuple(chunks)) for number in (1, 2)]
    written(path, *kept)
    assert list(load_exchanges(path)) == kept
    assert path.read_bytes().count(b"\n") == 2


def test_the_file_is_made_by_the_first_exchange_and_is_private(path):
    log = ExchangeLog(path)
    assert not path.exists()
    log.write(exchange())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    log.close()
    log.close()


def test_without_a_file_nothing_is_kept_and_nothing_read(path):
    written(None, exchange())
    assert list(load_exchanges(path)) == []


def test_a_link_in_its_place_is_not_followed(path, tmp_path):
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageFailed, match=r"exchanges\.jsonl"):
        ExchangeLog(path).write(exchange())
    assert not (tmp_path / "elsewhere").exists()


def test_a_directory_that_is_gone_is_a_failure_of_the_storage(tmp_path):
    with pytest.raises(StorageFailed, match="No such file"):
        ExchangeLog(tmp_path / "gone" / "exchanges.jsonl").write(exchange())


def test_a_full_disk_leaves_the_file_as_it_was(path, monkeypatch):
    log = ExchangeLog(path)
    log.write(exchange(1))
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:10]))
    with pytest.raises(StorageFailed, match=os.strerror(errno.ENOSPC)):
        log.write(exchange(2))
    monkeypatch.undo()
    log.write(exchange(3))
    log.close()
    assert [each.number for each in load_exchanges(path)] == [1, 3]


def test_a_last_line_that_a_crash_tore_is_left_out(path):
    whole = written(path, exchange(1), exchange(2)).read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first + 1, len(whole) - 1, 7):
        path.write_bytes(whole[:end])
        assert [each.number for each in load_exchanges(path)] == [1]


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{}",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"number": 1}',
        b"\0" * 100,
    ],
)
def test_a_damaged_line_is_named(path, damage):
    good = written(path, exchange(1)).read_bytes()
    path.write_bytes(good + damage + b"\n" + good)
    with pytest.raises(UsageError, match=r"exchanges\.jsonl, line 2: .*not a whole"):
        list(load_exchanges(path))


def test_a_request_that_was_changed_afterwards_is_damage(path):
    good = written(path, exchange(1), exchange(2)).read_bytes()
    path.write_bytes(good.replace(b'"n":1', b'"n":7'))
    with pytest.raises(UsageError, match="line 1"):
        list(load_exchanges(path))


def test_a_line_that_is_too_long_is_refused_before_it_is_read_whole(path):
    written(path, exchange(1), exchange(2, chunks=("x" * 10_000,)))
    with pytest.raises(UsageError, match=r"line 2: it is longer than 1,000 bytes"):
        list(load_exchanges(path, longest_line=1_000))


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        list(load_exchanges(tmp_path))


def test_neither_writing_nor_reading_holds_more_than_one_exchange(path):
    size, number = 200_000, 40
    tracemalloc.start()
    try:
        log = ExchangeLog(path)
        for each in range(number):
            log.write(exchange(each + 1, chunks=("x" * size,)))
        log.close()
        assert sum(1 for _ in load_exchanges(path)) == number
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * size


def test_beyond_its_bytes_only_digests_are_kept(path):
    log = ExchangeLog(path, most_bytes=2_000)
    large = [exchange(n, chunks=("x" * 900,)) for n in range(1, 4)]
    for each in (*large, exchange(4)):
        log.write(each)
    log.close()
    kept = list(load_exchanges(path))
    assert [each.whole for each in kept] == [True, False, False, True]
    assert [each.digest for each in kept[:3]] == [each.digest for each in large]
    assert kept[1].request == {}
    assert kept[1].chunks == ()
    assert path.stat().st_size < 3_000


def test_what_would_be_too_long_to_read_again_is_not_kept_whole(path, monkeypatch):
    monkeypatch.setattr(exchanges, "LONGEST_LINE", 1_000)
    log = ExchangeLog(path)
    log.write(exchange(1, chunks=("x" * 2_000,)))
    log.write(exchange(2, chunks=("x",)))
    log.close()
    assert [each.whole for each in load_exchanges(path, 1_000)] == [False, True]


def test_what_was_not_kept_whole_is_not_replayed(path):
    log = ExchangeLog(path, most_bytes=0)
    log.write(exchange(1))
    log.close()
    recording = Recording(load_exchanges(path))
    assert recording.take(1, "model", exchange(1).request) is None
    assert recording.divergence
