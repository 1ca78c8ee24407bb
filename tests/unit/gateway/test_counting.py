"""Tokens are counted with the model's tokenizer where it is here, and nearly so where it is not."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain import TokenSource
from runner.gateway import counting
from runner.gateway.approximation import approximate_tokens
from runner.gateway.counting import MESSAGE_TOKENS, REPLY_TOKENS, TokenCounter, encoding_of

COUNTER = TokenCounter()
GERMAN = (
    "Der Testlauf beginnt, sobald die Aufgaben gelesen und die Abbilder gebaut sind. Jede Aufgabe "
    "läuft in einem eigenen Behälter ohne Netzwerk, und was der Agent über seinen Verbrauch "
    "behauptet, zählt nicht. Gemessen wird von außen: Rechenzeit, Speicher und Ein- und Ausgabe. "
    "Überschreitet ein Versuch seine Zeitbegrenzung, so wird er angehalten und als abgelaufen "
    "vermerkt; seine bisherigen Ergebnisse bleiben für die spätere Prüfung erhalten. "
)
CHINESE = (
    "每个任务都在没有网络的独立容器中运行。代理声称的用量不作数,只有从外部测得的数据才算。"
    "如果一次尝试超过了时间限制,它会被停止并标记为超时,已有的结果会保留下来以供检查。"
    "模型调用由主机上的网关转发,每次调用之前先预留预算,调用结束之后再结算。"
)
ENGLISH = (
    "Every task runs in a container of its own that has no network, and what the agent claims of "
    "its use does not count. It is measured from outside: processor time, memory, input and "
    "output. When an attempt takes longer than it may, it is stopped and noted as timed out; what "
    "it had finished by then is kept, so that somebody can look at it later. "
)
RANDOM = random.Random(4)
SAMPLES = {
    "English": ENGLISH * 3,
    "German": GERMAN * 3,
    "Chinese": CHINESE * 3,
    "code": Path(counting.__file__).read_text(encoding="utf-8"),
    "JSON": json.dumps(
        [
            {"id": n, "name": f"task-{n}", "score": n / 7, "tags": ["read", "write"], "done": None}
            for n in range(40)
        ],
        indent=2,
    ),
    "base64": base64.b64encode(RANDOM.randbytes(3_000)).decode(),
}


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o", "o200k_base"),
        ("gpt-4o-2024-08-06", "o200k_base"),
        ("openai/gpt-4.1-mini", "o200k_base"),
        ("ft:gpt-4o-mini-2024-07-18:org::id", "o200k_base"),
        ("gpt-5", "o200k_base"),
        ("gpt-5-nano-2025-08-07", "o200k_base"),
        ("o1", "o200k_base"),
        ("o4-mini", "o200k_base"),
        ("gpt-oss-120b", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-turbo-2024-04-09", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("text-embedding-3-small", "cl100k_base"),
        ("claude-sonnet-4-5", None),
        ("o1x", None),
        ("olmo-2", None),
        ("llama-3.3-70b", None),
        ("", None),
        ("/" * 1_000_000, None),
    ],
)
def test_the_encoding_follows_from_the_name_of_the_model(model, encoding):
    assert encoding_of(model) == encoding


def test_models_of_openai_are_counted_by_their_tokenizer():
    pytest.importorskip("bpe_openai")
    assert COUNTER.count("gpt-4o", ["hello world"]) == (2, TokenSource.TOKENIZER)
    assert COUNTER.count("gpt-4", ["hello", " world"]) == (2, TokenSource.TOKENIZER)
    chinese = [COUNTER.count(model, [CHINESE])[0] for model in ("gpt-4o", "gpt-4")]
    assert chinese[0] < chinese[1]


def test_any_other_model_is_estimated():
    tokens, source = COUNTER.count("claude-sonnet-4-5", [ENGLISH])
    assert (tokens, source) == (approximate_tokens(ENGLISH), TokenSource.ESTIMATE)


def test_without_the_tokenizer_the_result_says_that_it_is_an_estimate(monkeypatch):
    monkeypatch.setattr(counting, "_tokenizer", lambda _: None)
    COUNTER.prepare(["openai/gpt-4o", "openai/gpt-4", "local/*"])
    expected = (approximate_tokens(ENGLISH), TokenSource.ESTIMATE)
    assert COUNTER.count("gpt-4o", [ENGLISH]) == expected


def test_a_tokenizer_that_is_not_installed_is_none(monkeypatch):
    monkeypatch.setattr(counting.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(counting, "_bindings", counting._bindings.__wrapped__)
    assert counting._tokenizer.__wrapped__("o200k_base") is None


def test_many_threads_may_be_the_first_to_count():
    pytest.importorskip("bpe_openai")
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from runner.gateway.counting import TokenCounter\n"
        "count = lambda _: TokenCounter().count('gpt-4o', ['hello world'])[0]\n"
        "with ThreadPoolExecutor(8) as pool: print(sum(pool.map(count, range(64))))\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "128"


def test_the_scripted_model_counts_the_same_whatever_is_installed(monkeypatch):
    before = COUNTER.count("agenttrace/scripted", [GERMAN, ENGLISH], messages=2)
    monkeypatch.setattr(counting, "_tokenizer", lambda _: None)
    assert COUNTER.count("agenttrace/scripted", [GERMAN, ENGLISH], messages=2) == before
    assert COUNTER.count("scripted", [GERMAN, ENGLISH], messages=2) == before
    assert before[1] is TokenSource.TOKENIZER


@pytest.mark.parametrize("model", ["gpt-4o", "claude-x", "agenttrace/scripted"])
def test_each_message_and_the_reply_cost_a_few_tokens_more(model):
    bare, _ = COUNTER.count(model, ["one", "two"])
    asked, _ = COUNTER.count(model, ["one", "two"], messages=2)
    assert asked == bare + 2 * MESSAGE_TOKENS + REPLY_TOKENS
    assert COUNTER.count(model, []) == (0, COUNTER.count(model, ["x"])[1])


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4", "claude-x"])
@given(text=st.text(st.characters()))
def test_any_text_can_be_counted_lone_surrogates_too(model, text):
    tokens, _ = COUNTER.count(model, [text])
    assert bool(text) <= tokens <= len(text.encode("utf-8", "surrogatepass"))


def test_what_looks_like_a_special_token_is_text():
    pytest.importorskip("bpe_openai")
    for model in ("gpt-4o", "gpt-4"):
        assert COUNTER.count(model, ["<|endoftext|>"])[0] > 3


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4", "claude-x"])
@pytest.mark.parametrize(
    "unit", ["a", " ", "\n", " \n", "aA", "'", "1", "é", "中", "\ud800", "😀", "<|endoftext|>"]
)
def test_a_large_hostile_text_is_counted_in_the_time_of_the_suite(model, unit):
    """Each takes a fraction of a second; a quadratic way would take hours."""
    text = unit * (2_000_000 // len(unit))
    tokens, _ = COUNTER.count(model, [text])
    assert 0 < tokens <= len(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_approximation_errs_little_and_rather_high(kind):
    pytest.importorskip("bpe_openai")
    exact, _ = COUNTER.count("gpt-4o", [SAMPLES[kind]])
    assert 0.95 * exact <= approximate_tokens(SAMPLES[kind]) <= 1.35 * exact


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(max_size=5))
def test_the_approximation_of_a_longer_text_is_not_lower(text, more):
    assert approximate_tokens(text) <= approximate_tokens(text + "\n" + more)


def test_importing_the_counter_loads_no_tokenizer():
    code = "import sys, runner.gateway.counting; print('bpe_openai' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
