"""Answers are kept for other runs, by many processes at once; whatever is damaged is absent."""

from __future__ import annotations

import multiprocessing
import os
import stat
import threading
from pathlib import Path

import pytest

from runner.errors import StorageFailed
from runner.gateway.cache import AnswerCache
from runner.gateway.calls import Exchange
from runner.gateway.exchanges import digest_of

ABSENT = "0" * 64


def exchange(n: int = 0, answer: str = "yes") -> Exchange:
    request = {"api": "/v1/chat/completions", "body": {"seed": n, "text": "\ud800"}}
    return Exchange(
        number=1,
        kind="model",
        digest=digest_of(request),
        request=request,
        status=200,
        chunks=(answer,),
    )


@pytest.fixture
def cache(tmp_path):
    return AnswerCache(tmp_path / "answers")


def files(cache: AnswerCache) -> list[Path]:
    return sorted(path for path in cache._directory.rglob("*") if path.is_file())


def test_what_was_put_is_got_in_its_latest_form_and_nothing_else_is(cache):
    assert cache.get(exchange().digest) is None
    cache.put(exchange())
    cache.put(exchange(answer="no"))
    assert cache.get(exchange().digest) == exchange(answer="no")
    assert cache.get(ABSENT) is None
    assert len(files(cache)) == 1


def test_its_files_are_private_and_in_directories_by_digest(cache):
    cache.put(exchange())
    (path,) = files(cache)
    digest = exchange().digest
    assert path.relative_to(cache._directory) == Path(digest[:2]) / digest
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("digest", ["", "..", "../" * 10 + "etc/passwd", "A" * 64, ABSENT + "\n"])
def test_nothing_but_a_digest_names_a_file(cache, digest):
    with pytest.raises(ValueError, match="not a digest"):
        cache.get(digest)
    with pytest.raises(ValueError, match="not a digest"):
        cache.put(exchange().model_copy(update={"digest": digest}))
    assert not cache._directory.exists()


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b"[" * 100_000, b"null"])
def test_a_damaged_file_is_absent_and_can_be_replaced(cache, damage):
    cache.put(exchange())
    (path,) = files(cache)
    path.write_bytes(damage)
    assert cache.get(exchange().digest) is None
    cache.put(exchange())
    assert cache.get(exchange().digest) == exchange()


def test_an_answer_to_another_request_is_absent(cache):
    for n in (1, 2):
        cache.put(exchange(n))
    one, other = (cache._path(exchange(n).digest) for n in (1, 2))
    other.write_bytes(one.read_bytes())
    assert cache.get(exchange(2).digest) is None
    one.write_bytes(one.read_bytes().replace(b'"seed":1', b'"seed":9'))
    assert cache.get(exchange(1).digest) is None


def test_a_disk_that_takes_nothing_is_a_failure_and_leaves_nothing(cache, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(StorageFailed, match="No space left"):
        cache.put(exchange())
    assert files(cache) == []


def test_pruning_removes_what_was_used_least_recently(cache):
    for n in range(4):
        cache.put(exchange(n))
        os.utime(cache._path(exchange(n).digest), (n, n))
    size = cache._path(exchange(0).digest).stat().st_size
    assert cache.get(exchange(0).digest)  # now it is the one used last
    assert cache.prune(2 * size) == 2 * size
    assert [bool(cache.get(exchange(n).digest)) for n in range(4)] == [True, False, False, True]
    assert cache.prune(10**9) == 0
    assert cache.prune(0) == 2 * size
    assert files(cache) == []


def test_pruning_removes_what_the_dead_left_unfinished_and_spares_the_living(cache):
    cache.put(exchange())
    folder = cache._path(exchange().digest).parent
    old, new = folder / ".0123456789abcdef", folder / ".fedcba9876543210"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    cache.prune(10**9)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_cache_that_is_not_there_yet_can_be_pruned(cache):
    assert cache.prune(0) == 0


def _use(directory: Path, answer: str, times: int) -> str:
    """What went wrong, if anything did: each answer that is found is whole."""
    cache = AnswerCache(directory)
    for _ in range(times):
        cache.put(exchange(answer=answer * 5_000))
        found = cache.get(exchange().digest)
        if found is None:
            return "an answer was not there"
        if len(set(found.chunks[0])) != 1 or len(found.chunks[0]) != 5_000:
            return "an answer was mixed"
    return ""


def test_threads_that_put_and_get_the_same_request_find_whole_answers(tmp_path):
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda a=answer: found.append(_use(tmp_path / "answers", a, 100)))
        for answer in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [""] * 4
    assert len(files(AnswerCache(tmp_path / "answers"))) == 1


def test_processes_that_put_and_get_the_same_request_find_whole_answers(tmp_path):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        jobs = [(tmp_path / "answers", answer, 100) for answer in "abc"]
        assert pool.starmap(_use, jobs) == [""] * 3
    assert len(files(AnswerCache(tmp_path / "answers"))) == 1


def test_pruning_beside_those_that_put_and_get_neither_fails_nor_mixes_answers(tmp_path):
    cache = AnswerCache(tmp_path / "answers")
    done = threading.Event()
    troubles: list[str] = []

    def put_and_get() -> None:
        try:
            for n in range(200):
                cache.put(exchange(n % 5))
                found = cache.get(exchange(n % 5).digest)
                if found not in (None, exchange(n % 5)):
                    troubles.append("another answer")
        finally:
            done.set()

    thread = threading.Thread(target=put_and_get)
    thread.start()
    while not done.is_set():
        cache.prune(100)
    thread.join()
    assert troubles == []
    assert cache.prune(0) >= 0
    assert files(cache) == []
