"""agenttrace/scripted answers by rules, the same every time, with usage that is exact."""

from __future__ import annotations

import base64
import json
import math
import struct
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from runner.domain import Api
from runner.errors import InvalidConfiguration
from runner.gateway.apis import meter, parse, prepared
from runner.gateway.calls import ModelRequest, Refused, UpstreamBroken
from runner.gateway.counting import TokenCounter
from runner.gateway.upstreams.scripted import MODEL, ScriptedUpstream, load_script

COUNTER = TokenCounter()
TALKING = [Api.CHAT, Api.RESPONSES, Api.MESSAGES]
CALCULATOR = {"name": "calculator", "parameters": {"type": "object"}}


class Watched:
    """Progress of one call, and the pauses that it made."""

    def __init__(self, seconds_left: float = 60.0) -> None:
        self.seconds_left = seconds_left
        self.waits = 0
        self.was_sent = False

    @asynccontextmanager
    async def waiting(self):
        self.waits += 1
        yield

    def sent(self) -> None:
        self.was_sent = True

    def not_charged(self) -> None:
        self.was_sent = False


def request_of(api: Api, text: str = "Hello", **fields: Any) -> ModelRequest:
    messages = [{"role": "user", "content": text}]
    body: dict[str, Any] = {
        Api.CHAT: {"messages": messages},
        Api.RESPONSES: {"input": text},
        Api.MESSAGES: {"messages": messages, "max_tokens": 5_000},
        Api.EMBEDDINGS: {"input": text},
    }[api]
    return prepared(parse(api, json.dumps({"model": "scripted", **body, **fields}).encode(), {}))


def offering(api: Api, text: str, **fields: Any) -> ModelRequest:
    tool: dict[str, Any] = {
        Api.CHAT: {"type": "function", "function": CALCULATOR},
        Api.RESPONSES: {"type": "function", **CALCULATOR},
        Api.MESSAGES: {"name": "calculator", "input_schema": {}},
    }[api]
    return request_of(api, text, tools=[tool], **fields)


def scripted(tmp_path: Path, text: str, **options: Any) -> ScriptedUpstream:
    path = tmp_path / "script.toml"
    path.write_text(text)
    return ScriptedUpstream(load_script(path), COUNTER, **options)


async def answer(upstream: ScriptedUpstream, request: ModelRequest, progress: Any = None) -> bytes:
    async with upstream.send(request, progress or Watched()) as reply:
        assert reply.status == 200
        return b"".join([chunk async for chunk in reply.body])


async def heard(upstream: ScriptedUpstream, request: ModelRequest) -> Any:
    reader = meter(request)
    reader.feed(await answer(upstream, request))
    reader.end()
    return reader


SHIPPED = ScriptedUpstream(load_script(), COUNTER)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("api", TALKING)
async def test_it_says_that_it_is_no_language_model(api, streamed):
    reader = await heard(SHIPPED, request_of(api, "Who are you?" + "!" * 500, stream=streamed))
    (text,) = reader.texts
    assert "no language model" in text
    assert "Who are you?" in text
    assert "!" * 201 not in text


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("api", TALKING)
async def test_its_usage_is_what_we_count_ourselves(api, streamed):
    request = offering(api, "What is 12 * (3 + 4)?", stream=streamed)
    reader = await heard(SHIPPED, request)
    counted = COUNTER.count(MODEL, request.texts, request.messages)[0] + request.tokens_besides
    assert reader.usage.tokens_input == counted
    assert reader.usage.tokens_output == COUNTER.count(MODEL, reader.texts)[0] > 0


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("api", TALKING)
async def test_arithmetic_goes_to_a_calculator_that_is_offered(api, streamed):
    reader = await heard(SHIPPED, offering(api, "What is 12 * (3 + 4)?", stream=streamed))
    assert sorted(reader.texts) == sorted(["calculator", '{"expression":"12 * (3 + 4)"}'])
    without = await heard(SHIPPED, request_of(api, "What is 12 * (3 + 4)?"))
    assert "calculator" not in without.texts


@pytest.mark.parametrize("result", ["84", '{"result": 84}', '{"result": {"result": "84"}}'])
async def test_a_tool_result_is_the_answer(result):
    chat = request_of(Api.CHAT, messages=[{"role": "tool", "tool_call_id": "c", "content": result}])
    responses = request_of(
        Api.RESPONSES, input=[{"type": "function_call_output", "call_id": "c", "output": result}]
    )
    block = {"type": "tool_result", "tool_use_id": "t", "content": result}
    messages = request_of(Api.MESSAGES, messages=[{"role": "user", "content": [block]}])
    for request in (chat, responses, messages):
        assert list((await heard(SHIPPED, request)).texts) == ["The answer is 84."]


@pytest.mark.parametrize("api", Api)
async def test_the_same_request_gets_the_same_bytes(api):
    first = await answer(SHIPPED, request_of(api))
    again = await answer(ScriptedUpstream(load_script(), COUNTER), request_of(api))
    assert first == again
    assert MODEL.encode() in first


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("api", TALKING)
async def test_an_answer_ends_at_the_limit_of_output(tmp_path, api, streamed):
    field = "max_output_tokens" if api is Api.RESPONSES else "max_tokens"
    request = request_of(api, stream=streamed, **{field: 10})
    reader = await heard(scripted(tmp_path, "[[rule]]\noutput_tokens = 500"), request)
    assert reader.usage.tokens_output == COUNTER.count(MODEL, reader.texts)[0] == 10
    assert reader.finish_reasons[0] in ("length", "max_output_tokens", "max_tokens")


@pytest.mark.parametrize("tokens", [1, 2, 77, 10_000])
async def test_filler_has_exactly_so_many_tokens(tmp_path, tokens):
    upstream = scripted(tmp_path, f"[[rule]]\noutput_tokens = {tokens}")
    reader = await heard(upstream, request_of(Api.CHAT))
    assert reader.usage.tokens_output == COUNTER.count(MODEL, reader.texts)[0] == tokens


async def test_each_choice_is_answered_and_counted(tmp_path):
    upstream = scripted(tmp_path, "[[rule]]\noutput_tokens = 30")
    reader = await heard(upstream, request_of(Api.CHAT, n=3, stream=True))
    assert reader.usage.tokens_output == 90
    assert reader.finish_reasons == ("stop",) * 3


async def test_conditions_and_groups(tmp_path):
    upstream = scripted(
        tmp_path,
        r"""
        [[rule]]
        match = 'capital of (?P<land>\w+)'
        turn = 2
        reply = "Again {land}, {1}, {match}"
        [[rule]]
        match = 'capital of (\w+)'
        reply = "{text} {1}{result}"
        [[rule]]
        tool_result = false
        reply = "else"
        """,
    )
    text = "the capital of Peru"
    assert list((await heard(upstream, request_of(Api.CHAT, text))).texts) == [text + " Peru"]
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    later = request_of(Api.CHAT, messages=[*turns, {"role": "user", "content": text}])
    assert list((await heard(upstream, later)).texts) == ["Again Peru, Peru, capital of Peru"]
    assert list((await heard(upstream, request_of(Api.CHAT, "x"))).texts) == ["else"]
    result = request_of(Api.CHAT, messages=[{"role": "tool", "tool_call_id": "c", "content": "x"}])
    assert "No rule" in (await heard(upstream, result)).texts[0]


async def test_trouble_that_passes_is_waited_for(tmp_path):
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    upstream = scripted(
        tmp_path,
        "[[rule]]\nstatus = 429\nretry_after_seconds = 33\ntimes = 2\n[[rule]]\nreply = 'Well'",
        sleep=sleep,
    )
    progress = Watched(seconds_left=100)
    async with upstream.send(request_of(Api.CHAT), progress) as reply:
        assert (reply.status, reply.retries) == (200, 2)
    assert slept == [33, 33]
    assert progress.waits == 2


async def test_trouble_that_does_not_pass_is_the_answer(tmp_path):
    upstream = scripted(tmp_path, "[[rule]]\nstatus = 503\nretry_after_seconds = 33")
    progress = Watched(seconds_left=10)
    async with upstream.send(request_of(Api.CHAT), progress) as reply:
        assert (reply.status, reply.retries) == (503, 0)
    assert not progress.was_sent


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_can_break_off(tmp_path, streamed):
    upstream = scripted(tmp_path, "[[rule]]\nreply = 'Hello there'\nbreak_after_chunks = 2")
    got: list[bytes] = []

    async def read() -> None:
        async with upstream.send(request_of(Api.CHAT, stream=streamed), Watched()) as reply:
            async for chunk in reply.body:
                got.append(chunk)  # noqa: PERF401 - what came before it breaks is wanted

    with pytest.raises(UpstreamBroken):
        await read()
    assert len(got) == (2 if streamed else 0)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("api", TALKING)
async def test_a_provider_may_say_nothing_of_its_usage(tmp_path, api, streamed):
    upstream = scripted(tmp_path, "[[rule]]\nreply = 'Hello'\nusage = false")
    reader = await heard(upstream, request_of(api, stream=streamed))
    assert reader.usage is None
    assert list(reader.texts) == ["Hello"]


async def test_a_reply_comes_in_as_many_pieces_as_the_rule_says(tmp_path):
    upstream = scripted(tmp_path, "[[rule]]\nreply = 'abcdefghij'\nchunk_count = 5")
    raw = await answer(upstream, request_of(Api.CHAT, stream=True))
    assert [piece in raw for piece in (b'"ab"', b'"cd"', b'"ij"')] == [True] * 3


async def test_embeddings_are_unit_vectors_of_their_text_alone():
    texts = ["a", "b", "a"]
    data = json.loads(await answer(SHIPPED, request_of(Api.EMBEDDINGS, input=texts)))["data"]
    a, b, again = (item["embedding"] for item in data)
    assert a == again != b
    assert len(a) == 64
    assert math.isclose(sum(number**2 for number in a), 1, abs_tol=1e-6)
    packed = json.loads(
        await answer(SHIPPED, request_of(Api.EMBEDDINGS, "a", encoding_format="base64"))
    )["data"][0]["embedding"]
    assert struct.unpack("<64f", base64.b64decode(packed)) == pytest.approx(a)


async def test_another_model_is_not_there():
    body = {"model": "gpt", "messages": [{"role": "user", "content": "x"}]}
    with pytest.raises(Refused):
        async with SHIPPED.send(ModelRequest(api=Api.CHAT, model="gpt", body=body), Watched()):
            pass


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "rule"),
        ("[[rule]", "TOML"),
        ("[[rule]]\nreply = 'a'\n[[rule]]\n", "rule 2"),
        ("[[rule]]\nreply = 'a'\nanswer = 'b'", "rule 1: answer"),
        ("[[rule]]\nreply = 'a'\nstatus = 500", "rule 1"),
        ("[[rule]]\nstatus = 200", "rule 1: status"),
        ("[[rule]]\nmatch = '('\nreply = 'a'", "match"),
        ("[[rule]]\nmatch = '(?<=a)b'\nreply = 'a'", "match"),
        ("[[rule]]\nreply = '{2}'\nmatch = '(a)'", "{2}"),
        ("[[rule]]\ntool_calls = [{name = 'f', arguments = {a = ['{x}']}}]", "{x}"),
        ("[[rule]]\nturn = 0\nreply = 'a'", "rule 1: turn"),
    ],
)
def test_a_script_that_makes_no_sense_is_refused_by_file_and_rule(tmp_path, text, said):
    path = tmp_path / "script.toml"
    path.write_text(text)
    with pytest.raises(InvalidConfiguration) as caught:
        load_script(path)
    assert str(path) in caught.value.message
    assert said in caught.value.message


def test_a_script_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidConfiguration, match="cannot be read"):
        load_script(tmp_path / "none.toml")
