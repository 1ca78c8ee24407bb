"""Uses the SDKs of OpenAI, Anthropic and MCP as their documentation shows, with no setting of its
own: the prompt names the scenario, the answer is what the SDK made of it, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import urllib.request
from typing import Any

import local_models

MODEL = "agenttrace/scripted"
QUESTION = "What is 6 * 7?"
GATEWAY = os.environ["AGENTTRACE_GATEWAY_URL"]


def answer(prompt: str, config: dict[str, Any]) -> str:
    assert config["gateway_url"] == GATEWAY
    return json.dumps(SCENARIOS[prompt]())


def use_tool(name: str, arguments: Any) -> Any:
    request = urllib.request.Request(
        f"{GATEWAY}/tools/{name}",
        json.dumps(arguments).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)["result"]


def offered(form: str) -> Any:
    with urllib.request.urlopen(f"{GATEWAY}/tools?format={form}") as response:
        return json.load(response)["tools"]


def says(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


# -- OpenAI --------------------------------------------------------------------------------------


def openai_chat() -> Any:
    from openai import OpenAI

    client = OpenAI()
    reply = client.chat.completions.create(model=MODEL, messages=says("echo hello"))
    assert reply.usage
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=says("count"),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    silent = list(client.chat.completions.create(model=MODEL, messages=says("count"), stream=True))
    return {
        "text": reply.choices[0].message.content,
        "usage": [reply.usage.prompt_tokens, reply.usage.completion_tokens],
        "finish": reply.choices[0].finish_reason,
        "streamed": text_of(chunks),
        "pieces": len([each for each in chunks if each.choices and each.choices[0].delta.content]),
        "streamed_usage": chunks[-1].usage and chunks[-1].usage.total_tokens,
        "silent": [text_of(silent), any(each.usage for each in silent)],
        "models": [model.id for model in client.models.list()],
    }


def text_of(chunks: list[Any]) -> str:
    return "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)


def openai_tools() -> Any:
    from openai import OpenAI

    client = OpenAI()
    tools = offered("openai")
    messages = says(QUESTION)
    reply = client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    message = reply.choices[0].message
    messages.append(message)
    assert message.tool_calls
    for call in message.tool_calls:
        result = use_tool(call.function.name, json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": str(result)})
    last = client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    with client.chat.completions.stream(
        model=MODEL, messages=says(QUESTION), tools=tools
    ) as stream:
        streamed = stream.get_final_completion().choices[0].message.tool_calls
    assert streamed
    return {
        "finish": reply.choices[0].finish_reason,
        "calls": [[call.function.name, json.loads(call.function.arguments)] for call in streamed],
        "text": last.choices[0].message.content,
    }


def openai_responses() -> Any:
    from openai import OpenAI

    client = OpenAI()
    reply = client.responses.create(model=MODEL, input="echo hello", store=False)
    with client.responses.stream(model=MODEL, input="count", store=False) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    tools = [{"type": "function", **tool["function"]} for tool in offered("openai")]
    asked: list[Any] = says(QUESTION)
    called = client.responses.create(model=MODEL, input=asked, tools=tools, store=False)
    for item in called.output:
        assert item.type == "function_call", item
        asked.append(item)
        result = str(use_tool(item.name, json.loads(item.arguments)))
        asked.append({"type": "function_call_output", "call_id": item.call_id, "output": result})
    last = client.responses.create(model=MODEL, input=asked, tools=tools, store=False)
    assert reply.usage
    assert final.usage
    return {
        "text": reply.output_text,
        "usage": [reply.usage.input_tokens, reply.usage.output_tokens],
        "streamed": [final.output_text, "".join(deltas), len(deltas)],
        "streamed_usage": final.usage.total_tokens,
        "last": last.output_text,
    }


def openai_embeddings() -> Any:
    from openai import OpenAI

    client = OpenAI()
    made = client.embeddings.create(model=MODEL, input=["a cat", "a dog", "a cat"], dimensions=8)
    first, second, third = (each.embedding for each in made.data)
    return {
        "sizes": [len(first), len(second)],
        "same": [first == third, first == second],
        "tokens": made.usage.total_tokens,
    }


def openai_parallel() -> Any:
    from openai import AsyncOpenAI

    async def all_at_once() -> list[str | None]:
        async with AsyncOpenAI() as client:

            async def one(number: int) -> str | None:
                reply = await client.chat.completions.create(
                    model=MODEL, messages=says(f"echo n{number}")
                )
                return reply.choices[0].message.content

            return await asyncio.gather(*(one(number) for number in range(40)))

    return asyncio.run(all_at_once())


def openai_errors() -> Any:
    import openai

    client = openai.OpenAI()

    def error_of(client: openai.OpenAI, model: str, content: Any) -> list[Any]:
        try:
            client.chat.completions.create(model=model, messages=says(content))
        except openai.APIStatusError as error:
            return [type(error).__name__, error.status_code, error.code]
        raise AssertionError("it was answered")

    url = {"type": "image_url", "image_url": {"url": "http://192.0.2.1/x.png"}}
    return [
        error_of(openai.OpenAI(api_key="at-" + 32 * "0"), MODEL, "echo a"),
        error_of(client, "gpt-unheard-of", "echo b"),
        error_of(client, "openai/gpt-4o-mini", "echo c"),
        error_of(client, MODEL, [url]),
        error_of(client, MODEL, "trouble 400"),
    ]


def openai_too_many() -> Any:
    """More calls than the attempt may make: the SDK does not try again what is refused for good."""
    import openai

    client = openai.OpenAI(max_retries=5)
    said = []
    for number in range(48):
        try:
            reply = client.chat.completions.create(model=MODEL, messages=says(f"echo n{number}"))
            said.append(reply.choices[0].message.content)
        except openai.RateLimitError as error:
            said.append(error.code)
    return said


def openai_over_budget() -> Any:
    """More tokens than the task allows. The attempt ends there, so this may not live to tell."""
    import openai

    client = openai.OpenAI(max_retries=5)
    while True:
        client.chat.completions.create(model=MODEL, messages=says("count"), max_tokens=400)


# -- Anthropic -----------------------------------------------------------------------------------


def anthropic_messages() -> Any:
    from anthropic import Anthropic

    client = Anthropic()
    reply = client.messages.create(model=MODEL, max_tokens=64, messages=says("echo hello"))
    with client.messages.stream(model=MODEL, max_tokens=256, messages=says("count")) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    return {
        "text": reply.content[0].text,
        "usage": [reply.usage.input_tokens, reply.usage.output_tokens],
        "stop": reply.stop_reason,
        "streamed": ["".join(pieces), len(pieces), final.stop_reason],
        "streamed_usage": final.usage.input_tokens + final.usage.output_tokens,
    }


def anthropic_tools() -> Any:
    import anthropic

    client = anthropic.Anthropic()
    tools = offered("anthropic")
    messages = says(QUESTION)
    reply = client.messages.create(model=MODEL, max_tokens=256, messages=messages, tools=tools)
    results = [
        {
            "type": "tool_result",
            "tool_use_id": block.id,
            "content": str(use_tool(block.name, block.input)),
        }
        for block in reply.content
        if block.type == "tool_use"
    ]
    messages += [
        {"role": "assistant", "content": reply.content},
        {"role": "user", "content": results},
    ]
    last = client.messages.create(model=MODEL, max_tokens=256, messages=messages, tools=tools)
    with client.messages.stream(
        model=MODEL, max_tokens=256, messages=says(QUESTION), tools=tools
    ) as stream:
        [streamed] = stream.get_final_message().content
    try:
        anthropic.Anthropic(api_key="wrong").messages.create(
            model=MODEL, max_tokens=64, messages=says("echo a")
        )
    except anthropic.AuthenticationError as error:
        refused = error.body
    return {
        "stop": reply.stop_reason,
        "text": last.content[0].text,
        "streamed": [streamed.name, streamed.input],
        "refused": refused,
    }


# -- MCP -----------------------------------------------------------------------------------------


def mcp_tools() -> Any:
    from mcp import Client

    async def session() -> Any:
        async with Client(f"{GATEWAY}/mcp") as client:
            listed = await client.list_tools()
            result = await client.call_tool("calculator", {"expression": "6 * 7"})
            wrong = await client.call_tool("calculator", {"expression": "6 *"})
            return {
                "tools": [tool.name for tool in listed.tools],
                "result": [each.text for each in result.content],
                "errors": [result.is_error, wrong.is_error],
            }

    return asyncio.run(session())


SCENARIOS = local_models.SCENARIOS | {
    each.__name__: each
    for each in (
        openai_chat,
        openai_tools,
        openai_responses,
        openai_embeddings,
        openai_parallel,
        openai_errors,
        openai_too_many,
        openai_over_budget,
        anthropic_messages,
        anthropic_tools,
        mcp_tools,
    )
}
