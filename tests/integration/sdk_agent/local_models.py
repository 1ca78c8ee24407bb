"""What the agent asks of a model that is served by an OpenAI-compatible server of others."""

from __future__ import annotations

import math
from typing import Any

MODEL = "local/tiny"
MESSAGES: list[Any] = [{"role": "user", "content": "hello there"}]
ANSWER = {"type": "object", "properties": {"answer": {"const": 42}}, "required": ["answer"]}
"""The one answer that the server's grammar lets its model of random weights give."""


def local_chat() -> Any:
    from openai import OpenAI

    client = OpenAI()
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": MESSAGES,
        "temperature": 0,
        "max_tokens": 100,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": ANSWER},
        },
    }
    reply = client.chat.completions.create(**asked)
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    silent = list(client.chat.completions.create(**asked, stream=True))
    assert reply.usage
    return {
        "texts": [reply.choices[0].message.content, text_of(chunks), text_of(silent)],
        "pieces": len([each for each in chunks if each.choices]),
        "usage": [reply.usage.prompt_tokens, reply.usage.completion_tokens],
        "streamed_usage": chunks[-1].usage and chunks[-1].usage.total_tokens,
        "silent_usage": any(each.usage for each in silent),
    }


def text_of(chunks: list[Any]) -> str:
    return "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)


def local_responses() -> Any:
    from openai import OpenAI

    client = OpenAI()
    asked: dict[str, Any] = {
        "model": MODEL,
        "input": "hello there",
        "temperature": 0,
        "max_output_tokens": 20,
        "store": False,
    }
    reply = client.responses.create(**asked)
    events = list(client.responses.create(**asked, stream=True))
    final = events[-1].response
    deltas = [each.delta for each in events if each.type == "response.output_text.delta"]
    assert reply.usage
    assert final.usage
    return {
        "text": bool(reply.output_text),
        "streamed": "".join(deltas) == final.output_text != "",
        "usage": [
            [each.usage.input_tokens, each.usage.output_tokens]
            for each in (reply, final)
            if each.usage
        ],
    }


def local_messages() -> Any:
    from anthropic import Anthropic

    client = Anthropic()
    asked: dict[str, Any] = {
        "model": "claudish/tiny",
        "messages": MESSAGES,
        "max_tokens": 20,
        "extra_body": {"temperature": 0},
    }
    reply = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        final = stream.get_final_message()
    return [
        {
            "stop": each.stop_reason,
            "input": each.usage.input_tokens + (each.usage.cache_read_input_tokens or 0),
            "output": each.usage.output_tokens,
        }
        for each in (reply, final)
    ]


def local_embeddings() -> Any:
    from openai import OpenAI

    made = OpenAI().embeddings.create(model=MODEL, input=["hello", "there", "hello"])
    first, second, third = (each.embedding for each in made.data)
    return {
        "size": len(first),
        "distances": [math.dist(first, third), math.dist(first, second)],
        "tokens": made.usage.prompt_tokens,
    }


def local_errors() -> Any:
    import openai

    client = openai.OpenAI()
    try:
        client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "x" * 40_000}], max_tokens=4
        )
    except openai.BadRequestError as error:
        return [error.status_code, error.type]
    raise AssertionError("it has no room for that")


def local_left_early() -> Any:
    """Reads three pieces of a long answer, and hangs up."""
    from openai import OpenAI

    stream = OpenAI().chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, max_tokens=10_000, logit_bias={"2": -100}
    )
    pieces = [next(stream) for _ in range(3)]
    stream.close()
    return len(pieces)


def local_priced() -> Any:
    from openai import OpenAI

    reply = OpenAI().chat.completions.create(model="priced/tiny", messages=MESSAGES, max_tokens=4)
    return bool(reply.usage)


def local_unpriced() -> Any:
    import openai

    try:
        openai.OpenAI().chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=4)
    except openai.BadRequestError as error:
        return error.code
    raise AssertionError("it was sent without a price")


def local_goes_down() -> Any:
    """Asks until it is told that there is no answer, and then once more."""
    import openai

    client = openai.OpenAI(max_retries=0)
    answered = 0
    failures = []
    while len(failures) < 2:
        try:
            client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=1)
            answered += 1
        except openai.InternalServerError as error:
            failures.append([error.status_code, error.code])
    return {"answered": answered > 0, "failures": failures, "text": "The answer is 42."}


def local_comes_up() -> Any:
    from openai import OpenAI

    reply = OpenAI(max_retries=0).chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=1, temperature=0
    )
    return {"finish": reply.choices[0].finish_reason, "text": "The answer is 42."}


SCENARIOS = {
    each.__name__: each
    for each in (
        local_chat,
        local_responses,
        local_messages,
        local_embeddings,
        local_errors,
        local_left_early,
        local_priced,
        local_unpriced,
        local_goes_down,
        local_comes_up,
    )
}
