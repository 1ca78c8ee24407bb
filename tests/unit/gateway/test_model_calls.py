"""Each model call is settled and recorded once, with what it used, whatever happens to it."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from runner.domain import Api, Budget, BudgetKind, ModelCall, Spending, TokenSource
from runner.errors import StorageFailed
from runner.gateway.cache import AnswerCache
from runner.gateway.calls import Answer, Price, Refused, Upstream
from runner.gateway.counting import TokenCounter
from runner.gateway.exchanges import ExchangeLog, digest_of, load_exchanges
from runner.gateway.ledger import Ledger, OverBudget
from runner.gateway.model_calls import ModelCalls
from runner.gateway.prices import Prices
from runner.gateway.replay import Recording
from runner.gateway.upstreams.http import HttpPolicy, HttpUpstream
from runner.gateway.upstreams.scripted import MODEL, ScriptedUpstream, load_script
from runner.gateway.waits import Clockwork
from tests.unit.gateway.provider import ABORT, HANG, Play, Provider, events, provider, whole

COUNTER = TokenCounter()
HELLO = [{"role": "user", "content": "Hello"}]
CENT = Price(input_usd=Decimal("0.01"), output_usd=Decimal("0.02"))
USAGE = {"prompt_tokens": 50, "completion_tokens": 7, "total_tokens": 57}


async def no_pause(seconds: float) -> None:
    await asyncio.sleep(0)


@dataclass
class Attempt:
    """One attempt's models, and all that was told of its calls."""

    upstreams: Sequence[Upstream]
    directory: Path
    budget: Budget = field(default_factory=Budget)
    run_ledger: Ledger | None = None
    cache: AnswerCache | None = None
    recording: Recording | None = None
    overrides: dict[tuple[str, str], Price] = field(default_factory=dict)
    log: ExchangeLog | None = None
    response_bytes: int = 1_000_000
    call_seconds: float = 60.0
    allowed: Sequence[str] = ("agenttrace/*", "local/*")

    def __post_init__(self) -> None:
        from runner.gateway.upstreams.routing import Upstreams

        self.calls: list[ModelCall] = []
        self.spent: list[Spending] = []
        self.over: list[OverBudget] = []
        self.ledger = Ledger(self.budget, self.run_ledger)
        self.clockwork = Clockwork(1_000, excuse_waits=True)
        self.path = self.directory / "exchanges.jsonl"
        self.models = ModelCalls(
            upstreams=Upstreams(self.upstreams, self.allowed),
            ledger=self.ledger,
            counter=COUNTER,
            prices=Prices(self.overrides),
            log=self.log or ExchangeLog(self.path),
            recording=self.recording,
            cache=self.cache,
            waits=self.clockwork,
            margin=1.25,
            on_call=self.calls.append,
            on_spending=self.spent.append,
            on_over_budget=self.over.append,
            numbers=itertools.count(1).__next__,
            response_bytes=self.response_bytes,
            call_seconds=self.call_seconds,
            task_id="math-1",
            repeat=2,
        )

    async def ask(self, api: Api = Api.CHAT, **fields: Any) -> Answer:
        body = {"model": MODEL, **({"messages": HELLO} if api is Api.CHAT else {}), **fields}
        return await self.models.call(api, json.dumps(body).encode(), {})

    async def text(self, api: Api = Api.CHAT, **fields: Any) -> bytes:
        return await read(await self.ask(api, **fields))

    async def refused(self, api: Api = Api.CHAT, **fields: Any) -> Refused:
        with pytest.raises(Refused) as caught:
            await self.text(api, **fields)
        return caught.value

    @property
    def recorded(self) -> list[Any]:
        return list(load_exchanges(self.path))

    @property
    def used(self) -> int:
        """Tokens, by the ledger's own books; nothing is held any more."""
        book = self.ledger.books[0]
        assert book.tokens.held == 0
        assert book.cost.held == 0
        assert book.model_calls.held == 0
        return book.tokens.used

    @property
    def calls_used(self) -> int:
        return self.ledger.books[0].model_calls.used


async def read(answer: Answer) -> bytes:
    if isinstance(answer.body, bytes):
        return answer.body
    return b"".join([chunk async for chunk in answer.body])


def scripted(directory: Path, text: str = "") -> ScriptedUpstream:
    if not text:
        return ScriptedUpstream(load_script(), COUNTER)
    path = directory / "script.toml"
    path.write_text(text)
    return ScriptedUpstream(load_script(path), COUNTER, sleep=no_pause)


@asynccontextmanager
async def local(there: Provider, name: str = "local", **policy: Any):
    upstream = HttpUpstream(
        name=name,
        api="openai",
        base_url=f"http://127.0.0.1:{there.port}/v1",
        key="sk-x",
        policy=HttpPolicy(sleep=no_pause, **policy),
    )
    try:
        yield upstream
    finally:
        await upstream.close()


def chunk(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


# -- answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", Api)
@pytest.mark.parametrize("streamed", [False, True])
async def test_each_api_is_answered_settled_and_recorded(tmp_path, api, streamed):
    if api is Api.EMBEDDINGS and streamed:
        return
    attempt = Attempt([scripted(tmp_path)], tmp_path, Budget(tokens=10_000))
    fields: dict[str, Any] = {
        Api.CHAT: {"messages": HELLO},
        Api.RESPONSES: {"input": "Hello"},
        Api.MESSAGES: {"messages": HELLO, "max_tokens": 100},
        Api.EMBEDDINGS: {"input": "Hello"},
    }[api]
    body = await attempt.text(api, **fields, **({"stream": True} if streamed else {}))
    (call,), (spent,), (exchange,) = attempt.calls, attempt.spent, attempt.recorded
    assert b"agenttrace/scripted" in body
    assert (call.status, call.streamed, call.aborted) == (200, streamed, False)
    assert call.token_source is TokenSource.PROVIDER
    assert call.tokens_input + call.tokens_output == attempt.used > 0
    assert (call.cost_usd, call.upstream, call.model) == (0.0, "agenttrace", MODEL)
    assert call.response_bytes == len(body)
    assert call.digest == exchange.digest == digest_of(exchange.request)
    assert "".join(exchange.chunks).encode() == body
    assert exchange.complete
    assert (spent.task_id, spent.repeat, spent.model) == ("math-1", 2, "scripted")
    assert attempt.clockwork.model_seconds > 0


async def test_a_provider_that_says_nothing_of_its_usage_is_counted_by_us(tmp_path):
    play = whole({"choices": [{"message": {"content": "Hello there"}, "finish_reason": "stop"}]})
    async with provider(play) as there, local(there) as upstream:
        attempt = Attempt([upstream], tmp_path)
        await attempt.text(model="gpt-4o")
    (call,) = attempt.calls
    assert call.token_source is TokenSource.TOKENIZER
    assert call.tokens_output == COUNTER.count("gpt-4o", ["Hello there"])[0]
    assert call.tokens_input == COUNTER.count("gpt-4o", ["Hello"], 1)[0]
    assert call.finish_reasons == ("stop",)


async def test_an_unknown_price_makes_the_cost_unknown_and_not_zero(tmp_path):
    async with provider(whole({"choices": [], "usage": USAGE})) as there, local(there) as upstream:
        attempt = Attempt([upstream], tmp_path)
        await attempt.text(model="nobody-knows")
        priced = Attempt([upstream], tmp_path, overrides={("local", "m"): CENT})
        await priced.text(model="m")
    assert attempt.calls[0].cost_usd is None
    assert attempt.spent[0].cost_usd is None
    assert priced.calls[0].cost_usd == pytest.approx(0.64)


async def test_the_usage_chunk_that_was_not_asked_for_is_counted_and_not_passed_on(tmp_path):
    play = events(chunk("Hi", "stop"), {"choices": [], "usage": USAGE}, b"data: [DONE]\n\n")
    async with provider(play) as there, local(there) as upstream:
        attempt = Attempt([upstream], tmp_path)
        body = await attempt.text(model="m", stream=True)
        asked = await attempt.text(model="m", stream=True, stream_options={"include_usage": True})
    assert there.got[0].body["stream_options"] == {"include_usage": True}
    assert b"prompt_tokens" not in body
    assert b"prompt_tokens" in asked
    assert [call.tokens_input for call in attempt.calls] == [50, 50]


async def test_trouble_is_waited_for_and_told_apart(tmp_path):
    script = "[[rule]]\nstatus = 429\ntimes = 2\n[[rule]]\nreply = 'Well'"
    attempt = Attempt([scripted(tmp_path, script)], tmp_path)
    assert b"Well" in await attempt.text()
    (call,) = attempt.calls
    assert (call.status, call.retries) == (200, 2)
    assert 0 < call.waited_seconds <= call.seconds


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_error_of_the_provider_is_passed_on_and_costs_nothing(tmp_path, streamed):
    async with provider(whole({"error": "no"}, status=404)) as there, local(there) as upstream:
        attempt = Attempt([upstream], tmp_path, Budget(tokens=100))
        answer = await attempt.ask(model="m", stream=streamed, max_tokens=5)
        assert (answer.status, await read(answer)) == (404, b'{"error": "no"}')
    (call,) = attempt.calls
    assert (call.status, call.refused, call.token_source) == (404, "", None)
    assert attempt.used == 0
    assert attempt.calls_used == 1
    assert not attempt.spent


# -- refusals --------------------------------------------------------------------------------------


async def test_a_refused_call_is_recorded_and_not_settled(tmp_path):
    attempt = Attempt([scripted(tmp_path)], tmp_path, Budget(tokens=1_000))
    for fields, code in (
        ({"web_search_options": {}}, "unsupported_parameter"),
        ({"model": "gpt"}, "model_not_found"),
    ):
        assert (await attempt.refused(**fields)).code == code
    with pytest.raises(Refused):
        await attempt.models.call(Api.CHAT, b"{", {})
    assert [call.refused for call in attempt.calls] == [
        "unsupported_parameter",
        "model_not_found",
        "invalid_json",
    ]
    assert [call.number for call in attempt.calls] == [1, 2, 3]
    assert [exchange.refused for exchange in attempt.recorded] == [
        call.refused for call in attempt.calls
    ]
    assert (attempt.used, attempt.calls_used) == (0, 1), "one was refused by the upstream itself"


async def test_a_flood_of_refusals_does_not_fill_the_disk(tmp_path):
    attempt = Attempt([scripted(tmp_path)], tmp_path)
    for _ in range(300):
        await attempt.refused(model="x")
    assert len(attempt.recorded) == 100
    assert len(attempt.calls) == 300


async def test_over_the_token_budget_the_attempt_is_told(tmp_path):
    attempt = Attempt([scripted(tmp_path)], tmp_path, Budget(tokens=5))
    refused = await attempt.refused()
    assert (refused.status, refused.code) == (429, "budget_exceeded")
    assert [(over.kind, over.whole_run) for over in attempt.over] == [(BudgetKind.TOKENS, False)]
    assert attempt.used == 0


async def test_the_budget_of_the_run_is_told_apart(tmp_path):
    run = Ledger(Budget(tokens=5))
    attempt = Attempt([scripted(tmp_path)], tmp_path, run_ledger=run)
    await attempt.refused()
    assert attempt.over[0].whole_run


async def test_over_the_number_of_calls_it_goes_on(tmp_path):
    attempt = Attempt([scripted(tmp_path)], tmp_path, Budget(model_calls=2))
    for _ in range(2):
        await attempt.text()
    assert (await attempt.refused()).code == "model_calls_exceeded"
    assert attempt.over[0].kind is None


HEARD = [
    {
        "role": "user",
        "content": [
            {"type": "input_audio", "input_audio": {"data": "A" * 20_000, "format": "wav"}}
        ],
    }
]


AUDIO_USAGE = {**USAGE, "prompt_tokens_details": {"audio_tokens": USAGE["prompt_tokens"]}}


@pytest.mark.parametrize("usage", [None, USAGE, AUDIO_USAGE], ids=["none", "sum", "all"])
async def test_audio_is_paid_as_audio_whoever_counts_it(tmp_path, usage):
    play = whole({"choices": [], "usage": usage})
    async with provider(play) as there, local(there, "openai") as upstream:
        attempt = Attempt([upstream], tmp_path, allowed=("openai/*",))
        await attempt.text(model="openai/gpt-audio", messages=HEARD)
    (call,) = attempt.calls
    as_text = (call.tokens_input * Decimal("2.5") + call.tokens_output * 10) / 1_000_000
    assert call.cost_usd is not None
    assert call.cost_usd > 5 * as_text


async def test_audio_that_has_no_price_is_refused_under_a_cost_budget(tmp_path):
    async with provider(Play()) as there, local(there, "openai") as upstream:
        attempt = Attempt([upstream], tmp_path, Budget(cost_usd=1.0), allowed=("openai/*",))
        assert (
            await attempt.refused(model="openai/gpt-4o", messages=HEARD)
        ).code == "price_unknown"
    assert not there.got


async def test_under_a_cost_budget_an_unknown_price_is_refused(tmp_path):
    async with provider(Play()) as there, local(there) as upstream:
        attempt = Attempt([upstream], tmp_path, Budget(cost_usd=1.0))
        assert (await attempt.refused(model="nobody-knows")).code == "price_unknown"
    assert not there.got


# -- budgets ---------------------------------------------------------------------------------------


async def test_the_output_is_limited_to_what_is_left(tmp_path):
    script = "[[rule]]\noutput_tokens = 500"
    attempt = Attempt([scripted(tmp_path, script)], tmp_path, Budget(tokens=100))
    await attempt.text()
    assert attempt.used == 100
    assert attempt.calls[0].finish_reasons == ("length",)
    assert (await attempt.refused()).code == "budget_exceeded"


async def test_the_output_is_limited_to_what_the_money_pays(tmp_path):
    async with provider(whole({"choices": [], "usage": USAGE})) as there, local(there) as upstream:
        attempt = Attempt(
            [upstream], tmp_path, Budget(cost_usd=1.0), overrides={("local", "m"): CENT}
        )
        await attempt.text(model="m", max_tokens=10_000)
    counted = COUNTER.count("m", ["Hello"], 1)[0]
    reserved = -(-counted * 5 // 4)
    assert there.got[0].body["max_tokens"] == (100 - reserved) // 2


async def test_without_a_budget_nothing_is_limited(tmp_path):
    async with provider(whole({"choices": []})) as there, local(there) as upstream:
        await Attempt([upstream], tmp_path).text(model="m")
    assert "max_tokens" not in there.got[0].body


async def test_a_call_that_others_leave_no_room_for_waits_for_them(tmp_path):
    script = "[[rule]]\noutput_tokens = 10"
    attempt = Attempt([scripted(tmp_path, script)], tmp_path, Budget(tokens=200))
    bodies = await asyncio.gather(*(attempt.text(max_tokens=150, stream=True) for _ in range(5)))
    assert all(bodies)
    assert not attempt.over


@pytest.mark.parametrize("streamed", [False, True])
async def test_1000_parallel_calls_never_exceed_a_token_budget_by_one(tmp_path, streamed):
    upstream = scripted(tmp_path, "[[rule]]\noutput_tokens = 40")
    run = Ledger(Budget(tokens=9_973))
    attempt = Attempt([upstream], tmp_path, Budget(tokens=10_007), run_ledger=run)

    async def call(number: int) -> str:
        try:
            await attempt.text(stream=streamed, max_tokens=40 + number % 7)
        except Refused as refused:
            return refused.code
        return ""

    codes = await asyncio.gather(*map(call, range(1_000)))
    assert set(codes) == {"", "budget_exceeded"}
    assert sum(call.tokens_input + call.tokens_output for call in attempt.calls) == attempt.used
    assert 9_973 - 100 < attempt.used <= 9_973
    assert len(attempt.calls) == 1_000
    assert len({call.number for call in attempt.calls}) == 1_000


async def test_parallel_calls_never_exceed_a_cost_or_a_call_budget(tmp_path):
    async with provider(whole({"choices": [], "usage": USAGE})) as there, local(there) as upstream:
        priced = Attempt(
            [upstream], tmp_path, Budget(cost_usd=10.0), overrides={("local", "m"): CENT}
        )
        counted = Attempt([upstream], tmp_path, Budget(model_calls=10))
        long = [{"role": "user", "content": "x" * 200}]
        for attempt in (priced, counted):
            calls = (attempt.text(model="m", messages=long, max_tokens=7) for _ in range(60))
            await asyncio.gather(*calls, return_exceptions=True)
    assert priced.ledger.books[0].cost.used <= Decimal(10)
    assert sum(call.cost_usd or 0 for call in priced.calls) <= 10.0
    assert priced.over
    assert counted.calls_used == 10


# -- what ends in the middle -----------------------------------------------------------------------


@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_an_agent_that_goes_away_pays_for_what_had_come(tmp_path, how):
    play = events(chunk("Hello "), chunk("there"), HANG)
    async with provider(play) as there, local(there) as upstream:
        attempt = Attempt([upstream], tmp_path, Budget(tokens=1_000))
        answer = await attempt.ask(model="m", stream=True, max_tokens=100)
        got = asyncio.Event()

        async def consume() -> None:
            async for piece in answer.body:
                if b"there" in piece:
                    got.set()

        if how == "cancelled":
            task = asyncio.create_task(consume())
            await got.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        else:
            had = b""  # in one piece, if it came together
            while b"there" not in had:
                had += await anext(answer.body)
            assert b"Hello" in had
        await answer.body.aclose()
        await there.gone.wait()
    (call,), (exchange,) = attempt.calls, attempt.recorded
    assert (call.status, call.aborted, call.refused) == (200, True, "")
    assert call.tokens_input == COUNTER.count("m", ["Hello"], 1)[0]
    assert call.tokens_output == COUNTER.count("m", ["Hello there"])[0]
    assert attempt.used == call.tokens_input + call.tokens_output
    assert not exchange.complete


async def test_a_stream_that_is_never_read_is_settled_when_it_is_closed(tmp_path):
    attempt = Attempt([scripted(tmp_path)], tmp_path, Budget(tokens=1_000))
    answer = await attempt.ask(stream=True)
    await answer.body.aclose()
    await answer.body.aclose()
    (call,) = attempt.calls
    assert call.aborted
    assert attempt.used == call.tokens_input > 0


async def test_an_agent_that_goes_away_before_the_answer_pays_for_its_question(tmp_path):
    async with provider(Play(chunks=[HANG])) as there, local(there) as upstream:
        attempt = Attempt([upstream], tmp_path, Budget(tokens=1_000))
        task = asyncio.create_task(attempt.ask(model="m", max_tokens=10))
        await there.came.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    (call,) = attempt.calls
    assert call.aborted
    assert attempt.used == call.tokens_input == COUNTER.count("m", ["Hello"], 1)[0]


async def test_a_call_that_was_never_sent_costs_nothing(tmp_path):
    waiting = asyncio.Event()

    async def stay(seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    path = tmp_path / "script.toml"
    path.write_text("[[rule]]\nstatus = 503")
    attempt = Attempt(
        [ScriptedUpstream(load_script(path), COUNTER, sleep=stay)], tmp_path, Budget(tokens=1_000)
    )
    task = asyncio.create_task(attempt.ask())
    await waiting.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (attempt.used, attempt.calls_used) == (0, 1), "a call all the same"
    assert (attempt.calls[0].status, attempt.calls[0].aborted) == (499, True)


@pytest.mark.parametrize(
    ("play", "streamed", "status"),
    [
        (events(chunk("Hi"), ABORT), True, 200),
        (events(ABORT), True, 502),
        (Play(chunks=[b'{"choices": [', ABORT]), False, 502),
        (Play(raw=b""), False, 502),
        (Play(raw=b"garbage"), True, 502),
    ],
)
async def test_an_answer_that_breaks_off_is_an_error_and_its_question_is_paid(
    tmp_path, play, streamed, status
):
    async with provider(play) as there, local(there) as upstream:
        attempt = Attempt([upstream], tmp_path, Budget(tokens=1_000))
        refused = await attempt.refused(model="m", stream=streamed, max_tokens=10)
    assert (refused.status, refused.code) == (502, "upstream_failed")
    (call,), (exchange,) = attempt.calls, attempt.recorded
    assert (call.status, call.refused, call.aborted) == (status, "upstream_failed", False)
    assert attempt.used == call.tokens_input + call.tokens_output >= 8
    assert not exchange.complete


async def test_an_answer_that_is_too_large_is_broken_off(tmp_path):
    play = Play(chunks=[b"x" * 50_000] * 100)
    async with provider(play) as there, local(there) as upstream:
        attempt = Attempt([upstream], tmp_path, response_bytes=100_000)
        assert "larger" in (await attempt.refused(model="m")).message
    assert attempt.calls[0].refused == "upstream_failed"


@pytest.mark.parametrize("play", [Play(chunks=[HANG]), events(chunk("Hi"), HANG)])
async def test_a_call_that_takes_too_long_is_broken_off(tmp_path, play):
    async with provider(play) as there, local(there) as upstream:
        attempt = Attempt([upstream], tmp_path, call_seconds=0.3)
        assert "longer than" in (await attempt.refused(model="m", stream=True)).message
    assert attempt.calls[0].tokens_input > 0


async def test_garbage_that_is_an_answer_is_passed_on_and_counted_by_us(tmp_path):
    async with provider(Play(chunks=[b"\xff\xfe{"])) as there, local(there) as upstream:
        attempt = Attempt([upstream], tmp_path)
        assert await attempt.text(model="m") == b"\xff\xfe{"
    assert attempt.calls[0].tokens_output == 0
    assert attempt.calls[0].token_source is TokenSource.ESTIMATE


async def test_a_recording_that_cannot_be_written_keeps_no_call_from_settlement(tmp_path):
    log = ExchangeLog(tmp_path / "missing" / "exchanges.jsonl")
    attempt = Attempt([scripted(tmp_path)], tmp_path, Budget(tokens=1_000), log=log)
    with pytest.raises(StorageFailed):
        await attempt.text()
    assert attempt.used > 0
    assert len(attempt.calls) == len(attempt.spent) == 1


# -- recordings and caches -------------------------------------------------------------------------


async def test_a_replay_gives_the_same_answers_without_an_upstream(tmp_path):
    play = events(chunk("Hé"), chunk("llo", "stop"), {"choices": [], "usage": USAGE})
    raw = b"".join(play.chunks)
    play.chunks = [raw[:41], *(raw[at : at + 3] for at in range(41, len(raw), 3))]
    async with provider(play) as there, local(there) as upstream:
        prices = {("local", "m"): Price(input_usd=Decimal("0.01"), output_usd=Decimal("0.1"))}
        attempt = Attempt([upstream], tmp_path, Budget(tokens=1_000), overrides=prices)
        first = await attempt.text(model="m", stream=True, max_tokens=10)
        requests = len(there.got)
        replay = Attempt(
            [upstream],
            tmp_path,
            Budget(tokens=1_000),
            overrides=prices,
            recording=Recording(attempt.recorded),
            log=ExchangeLog(None),
        )
        assert await replay.text(model="m", stream=True, max_tokens=10) == first
        assert len(there.got) == requests
    (call,) = replay.calls
    assert (call.cached, call.cost_usd, call.retries) == (True, 1.2, 0)
    assert [spent.cost_usd for spent in replay.spent] == [0.0], "nobody was paid"
    assert (call.tokens_input, call.tokens_output) == (50, 7)
    assert replay.used == attempt.used == 57
    assert call.finish_reasons == ("stop",)


async def test_a_request_that_the_recording_does_not_have_diverges(tmp_path):
    attempt = Attempt([scripted(tmp_path)], tmp_path)
    await attempt.text()
    recording = Recording(attempt.recorded)
    replay = Attempt([scripted(tmp_path)], tmp_path, recording=recording, log=ExchangeLog(None))
    refused = await replay.refused(temperature=1)
    assert (refused.status, refused.code) == (409, "replay_diverged")
    assert recording.divergence is not None
    assert (replay.used, replay.calls_used) == (0, 1)


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_broke_off_breaks_off_again_in_a_replay(tmp_path, streamed):
    script = "[[rule]]\nreply = 'Hello there'\nbreak_after_chunks = 3"
    attempt = Attempt([scripted(tmp_path, script)], tmp_path)
    await attempt.refused(stream=streamed)
    replay = Attempt(
        [scripted(tmp_path)],
        tmp_path,
        recording=Recording(attempt.recorded),
        log=ExchangeLog(None),
    )
    assert (await replay.refused(stream=streamed)).code == "upstream_failed"
    assert replay.calls[0].status == attempt.calls[0].status
    assert replay.used == attempt.used


async def test_an_error_of_the_provider_is_replayed(tmp_path):
    async with provider(whole({"error": "no"}, status=404)) as there, local(there) as upstream:
        attempt = Attempt([upstream], tmp_path)
        await attempt.text(model="m")
        replay = Attempt(
            [upstream], tmp_path, recording=Recording(attempt.recorded), log=ExchangeLog(None)
        )
        answer = await replay.ask(model="m")
    assert (answer.status, answer.body) == (404, b'{"error": "no"}')


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_deterministic_answer_is_cached_and_still_counts(tmp_path, streamed):
    cache = AnswerCache(tmp_path / "cache")
    plays = whole({"choices": [], "usage": USAGE})
    if streamed:
        plays = events(chunk("Hi", "stop"), {"choices": [], "usage": USAGE})
    async with provider(plays) as there, local(there) as upstream:
        attempt = Attempt([upstream], tmp_path, cache=cache, overrides={("local", "m"): CENT})
        first = await attempt.text(model="m", temperature=0, stream=streamed)
        again = await attempt.text(model="local/m", temperature=0, stream=streamed)
        assert first == again
        assert len(there.got) == 1
        await attempt.text(model="m", stream=streamed)
        await attempt.text(model="m", temperature=0, seed=1, stream=streamed)
        assert len(there.got) == 3
    assert [call.cached for call in attempt.calls] == [False, True, False, False]
    assert [call.cost_usd for call in attempt.calls][:2] == [pytest.approx(0.64), 0.0]
    assert attempt.calls[1].tokens_input == 50
    assert [spent.cached for spent in attempt.spent] == [False, True, False, False]
    assert attempt.used == 57 * 4


@pytest.mark.parametrize(
    ("play", "fields"),
    [
        (whole({"error": "no"}, status=404), {}),
        (events(chunk("Hi"), ABORT), {"stream": True}),
        (whole({"choices": [{"message": {}, "finish_reason": "length"}]}), {"max_tokens": 10**6}),
    ],
)
async def test_what_is_not_a_whole_answer_is_not_cached(tmp_path, play, fields):
    cache = AnswerCache(tmp_path / "cache")
    async with provider(play) as there, local(there) as upstream:
        attempt = Attempt([upstream], tmp_path, Budget(tokens=1_000), cache=cache)
        for _ in range(2):
            try:
                await attempt.text(model="m", temperature=0, **fields)
            except Refused as refused:
                assert fields == {"stream": True}, refused  # noqa: PT017 - that one breaks off
    assert len(there.got) == 2


async def test_large_requests_are_read_all_the_same(tmp_path):
    attempt = Attempt([scripted(tmp_path)], tmp_path)
    await attempt.text(messages=[{"role": "user", "content": "x" * 300_000}])
    assert attempt.calls[0].tokens_input > 80_000


def test_models_are_listed_with_their_owner(tmp_path):
    models = Attempt([scripted(tmp_path)], tmp_path, allowed=[MODEL]).models
    assert models.models() == [MODEL]
    assert models.owner(MODEL) == "agenttrace (no language model)"
