"""An agent that asks a model, lets it use the task's tools, and answers with what it says last.

Its container has no network. The gateway's address and a key that is good for this attempt alone
are in the environment, where the SDKs of OpenAI and Anthropic look for them too.
"""

import json
import os
import urllib.error
import urllib.request

GATEWAY = os.environ["AGENTTRACE_GATEWAY_URL"]
MODEL = "agenttrace/scripted"  # answers by rules; put a language model's name here
TURNS = 8


def answer(prompt: str, config: dict) -> str:
    messages = [{"role": "user", "content": prompt}]
    tools = ask("/tools?format=openai")["tools"] if config["tools"] else []
    for _ in range(TURNS):
        message = chat(messages, tools)
        messages.append(message)
        if not message.get("tool_calls"):
            break
        messages.extend(use(call) for call in message["tool_calls"])
    return messages[-1].get("content") or ""


def chat(messages: list, tools: list) -> dict:
    request = {"model": MODEL, "messages": messages, "temperature": 0}
    if tools:  # the API wants none rather than an empty list
        request["tools"] = tools
    return ask("/v1/chat/completions", request)["choices"][0]["message"]


def use(call: dict) -> dict:
    """The model's tool call, and what came of it, as a message for the model."""
    function = call["function"]
    result = ask(f"/tools/{function['name']}", json.loads(function["arguments"]))
    return {"role": "tool", "tool_call_id": call["id"], "content": json.dumps(result)}


def ask(path: str, body: dict | None = None) -> dict:
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {os.environ['AGENTTRACE_GATEWAY_KEY']}",
    }
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(GATEWAY + path, data, headers)
    try:
        with urllib.request.urlopen(request) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{path}: {error}: {error.read().decode()}") from None
