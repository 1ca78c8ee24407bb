"""The SDKs of OpenAI, Anthropic and MCP from PyPI, unchanged, without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner import FailureReason, TaskExecution
from runner.domain import Api, TokenSource
from tests.integration.evaluated import Ran, evaluate, task

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]

SDK_AGENT = Path(__file__).with_name("sdk_agent")
SCENARIOS = (
    "openai_chat",
    "openai_tools",
    "openai_responses",
    "openai_embeddings",
    "openai_parallel",
    "openai_errors",
    "openai_too_many",
    "openai_over_budget",
    "anthropic_messages",
    "anthropic_tools",
    "mcp_tools",
)
MOST_CALLS = 45
COUNTED = " ".join(str(number) for number in range(1, 41))
SCRIPT = f"""
[[rule]]
tool_result = true
reply = "The answer is {{result}}."
[[rule]]
match = '[0-9]+ \\* [0-9]+'
offers = "calculator"
tool_calls = [{{ name = "calculator", arguments = {{ expression = "{{match}}" }} }}]
[[rule]]
match = '^count$'
reply = "{COUNTED}"
chunk_count = 10
[[rule]]
match = '^trouble 400$'
status = 400
[[rule]]
match = '^echo (\\w+)$'
reply = "{{1}}"
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """All scenarios, once."""
    extra = {"openai_over_budget": "token_budget = 1000"}
    suite = "".join(task(name, extra.get(name, "")) for name in SCENARIOS)
    directory = tmp_path_factory.mktemp("sdks")
    (directory / "script.toml").write_text(SCRIPT)
    flags = {
        "gateway.script": str(directory / "script.toml"),
        "limits.model_calls": MOST_CALLS,
        "run.reuse": False,
    }
    return evaluate(directory, SDK_AGENT, suite, flags)


def apis(execution: TaskExecution) -> list[tuple[Api, bool, tuple[str, ...]]]:
    return [(call.api, call.streamed, call.finish_reasons) for call in execution.model_calls]


def tokens(execution: TaskExecution, index: int) -> list[int]:
    call = execution.model_calls[index]
    return [call.tokens_input, call.tokens_output]


# -- OpenAI --------------------------------------------------------------------------------------


def test_openai_chat(ran: Ran) -> None:
    said, made = ran.said("openai_chat"), ran.task("openai_chat")
    assert (said["text"], said["finish"]) == ("hello", "stop")
    assert (said["streamed"], said["pieces"]) == (COUNTED, 10)
    assert said["silent"] == [COUNTED, False]
    assert said["models"] == ["agenttrace/scripted"]
    chat = Api.CHAT
    assert apis(made) == [(chat, streamed, ("stop",)) for streamed in (False, True, True)]
    assert said["usage"] == tokens(made, 0)
    assert said["streamed_usage"] == sum(tokens(made, 1))
    assert tokens(made, 2) == tokens(made, 1), "its usage was not passed on, but it was counted"


def test_what_was_used_is_in_the_result(ran: Ran) -> None:
    made = ran.task("openai_chat")
    used = made.resource_usage
    assert used.api_calls_count == 3
    assert used.tokens_input == sum(call.tokens_input for call in made.model_calls) > 0
    assert used.tokens_output == sum(call.tokens_output for call in made.model_calls) > 0
    assert used.token_source is TokenSource.PROVIDER
    assert used.cost_usd == 0
    assert used.model_seconds > 0
    assert used.provider_wait_seconds == 0
    assert [each["kind"] for each in ran.exchanges("openai_chat")] == ["model"] * 3
    assert (ran.path / "spending.jsonl").read_text().count("openai_chat") == 3


def test_openai_tool_calls(ran: Ran) -> None:
    said, made = ran.said("openai_tools"), ran.task("openai_tools")
    assert said["finish"] == "tool_calls"
    assert said["calls"] == [["calculator", {"expression": "6 * 7"}]]
    assert said["text"] == "The answer is 42."
    assert made.score
    assert made.score.normalized == 100
    assert [call.finish_reasons for call in made.model_calls] == [
        ("tool_calls",),
        ("stop",),
        ("tool_calls",),
    ]
    [call] = made.tool_calls
    assert (call.name, call.arguments, call.via) == ("calculator", {"expression": "6 * 7"}, "http")
    assert made.resource_usage.tool_calls_count == 1
    kinds = [each["kind"] for each in ran.exchanges("openai_tools")]
    assert kinds == ["model", "tool", "model", "model"]


def test_openai_responses(ran: Ran) -> None:
    said, made = ran.said("openai_responses"), ran.task("openai_responses")
    assert said["text"] == "hello"
    assert said["usage"] == tokens(made, 0)
    assert said["streamed"] == [COUNTED, COUNTED, 10]
    assert said["streamed_usage"] == sum(tokens(made, 1))
    assert said["last"] == "The answer is 42."
    assert {call.api for call in made.model_calls} == {Api.RESPONSES}
    assert [call.streamed for call in made.model_calls] == [False, True, False, False]
    assert len(made.tool_calls) == 1


def test_openai_embeddings(ran: Ran) -> None:
    said, made = ran.said("openai_embeddings"), ran.task("openai_embeddings")
    assert said["sizes"] == [8, 8]
    assert said["same"] == [True, False]
    assert said["tokens"] == tokens(made, 0)[0] > 0
    assert apis(made) == [(Api.EMBEDDINGS, False, ())]


def test_many_calls_at_once(ran: Ran) -> None:
    assert ran.said("openai_parallel") == [f"n{number}" for number in range(40)]
    made = ran.task("openai_parallel")
    assert [call.number for call in made.model_calls] == list(range(1, 41))
    assert made.resource_usage.api_calls_count == 40
    assert len(ran.exchanges("openai_parallel")) == 40


def test_refusals_are_the_errors_that_the_sdk_knows(ran: Ran) -> None:
    assert ran.said("openai_errors") == [
        ["AuthenticationError", 401, "invalid_key"],
        ["NotFoundError", 404, "model_not_found"],
        ["PermissionDeniedError", 403, "model_not_allowed"],
        ["BadRequestError", 400, "reaches_network"],
        ["BadRequestError", 400, None],
    ]
    made = ran.task("openai_errors")
    assert made.resource_usage.tokens_total == 0
    assert "192.0.2.1" not in str([call.upstream for call in made.model_calls])


def test_an_agent_that_calls_too_often_is_told_and_goes_on(ran: Ran) -> None:
    said = ran.said("openai_too_many")
    assert said[:MOST_CALLS] == [f"n{number}" for number in range(MOST_CALLS)]
    assert said[MOST_CALLS:] == ["model_calls_exceeded"] * 3
    refused = [call for call in ran.task("openai_too_many").model_calls if call.refused]
    assert [call.refused for call in refused] == ["model_calls_exceeded"] * 3, "tried again"


def test_over_its_token_budget_an_attempt_ends(ran: Ran) -> None:
    made = ran.task("openai_over_budget")
    assert made.failure_reason is FailureReason.TOKEN_BUDGET_EXCEEDED
    assert made.model_calls[-1].refused == "budget_exceeded"
    assert [call.refused for call in made.model_calls[:-1]] == [""] * (len(made.model_calls) - 1)
    assert 500 < made.resource_usage.tokens_total <= 1000


# -- Anthropic -----------------------------------------------------------------------------------


def test_anthropic_messages(ran: Ran) -> None:
    said, made = ran.said("anthropic_messages"), ran.task("anthropic_messages")
    assert (said["text"], said["stop"]) == ("hello", "end_turn")
    assert said["streamed"] == [COUNTED, 10, "end_turn"]
    assert said["usage"] == tokens(made, 0)
    assert said["streamed_usage"] == sum(tokens(made, 1))
    assert apis(made) == [(Api.MESSAGES, streamed, ("end_turn",)) for streamed in (False, True)]


def test_anthropic_tool_use(ran: Ran) -> None:
    said, made = ran.said("anthropic_tools"), ran.task("anthropic_tools")
    assert said["stop"] == "tool_use"
    assert said["text"] == "The answer is 42."
    assert said["streamed"] == ["calculator", {"expression": "6 * 7"}]
    assert said["refused"]["error"]["type"] == "authentication_error"
    assert made.score
    assert made.score.normalized == 100
    assert [call.name for call in made.tool_calls] == ["calculator"]


# -- MCP -----------------------------------------------------------------------------------------


def test_mcp_tools(ran: Ran) -> None:
    said, made = ran.said("mcp_tools"), ran.task("mcp_tools")
    assert said["tools"] == ["calculator"]
    assert said["result"] == ["42"]
    assert said["errors"] == [False, True]
    assert [(call.via, call.succeeded) for call in made.tool_calls] == [
        ("mcp", True),
        ("mcp", False),
    ]
    assert made.model_calls == ()
