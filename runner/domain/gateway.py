"""What an agent did with models and tools, as the gateway saw it; nothing here is its own word."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Any

from pydantic import Field, JsonValue

from runner.domain.base import Noun

EXCHANGES = "exchanges.jsonl"
"""The file of an attempt that holds each of its exchanges, whole."""


class Api(StrEnum):
    """The model APIs that the gateway speaks; each value is its path."""

    CHAT = "/v1/chat/completions"
    RESPONSES = "/v1/responses"
    EMBEDDINGS = "/v1/embeddings"
    MESSAGES = "/v1/messages"


class TokenSource(StrEnum):
    """Who counted the tokens of a call."""

    PROVIDER = "provider"
    TOKENIZER = "tokenizer"
    """A tokenizer of the model's family, on this host."""
    ESTIMATE = "estimate"
    """An approximation: see docs/budgets.md."""


class BudgetKind(StrEnum):
    """Which budget of an attempt was met; its end when it was one of these."""

    TOKENS = "tokens"
    COST = "cost"


class Budget(Noun):
    """What one attempt may use of models and tools; None: no budget."""

    tokens: int | None = None
    """Input and output together."""
    cost_usd: float | None = None
    model_calls: int | None = None
    tool_calls: int | None = None


class Call(Noun):
    """What there may be thousands of, in memory until a run ends."""

    def model_post_init(self, _context: object) -> None:
        """Shares what pydantic keeps for each value by itself: the set of the names that were given
        takes more memory than the values, and nobody asks for it.
        """
        object.__setattr__(self, "__pydantic_fields_set__", _names_of(type(self)))


@cache
def _names_of(kind: type[Noun]) -> set[str]:
    return set(kind.model_fields)


class ModelCall(Call):
    """One call of a model, also one that was refused or broken off."""

    number: int = Field(ge=1)
    """Its place among the attempt's exchanges, models and tools together, in order of arrival."""
    api: Api
    model: str
    """As the agent named it; hostile."""
    upstream: str = ""
    """Empty: it was refused before one was chosen."""
    status: int
    """HTTP status that the agent got."""
    refused: str = ""
    """Our code of the refusal, such as `budget_exceeded`; empty: it was not refused by us."""
    start_unix_nanos: int
    """For the trace alone; durations are monotonic."""
    seconds: float = Field(ge=0)
    first_chunk_seconds: float | None = None
    """Until the first byte of the answer's body came from the upstream."""
    waited_seconds: float = Field(default=0.0, ge=0)
    """Of `seconds`: pauses because the upstream was overloaded or unreachable."""
    retries: int = Field(default=0, ge=0)
    tokens_input: int = Field(default=0, ge=0)
    tokens_output: int = Field(default=0, ge=0)
    token_source: TokenSource | None = None
    """None: nothing was counted, since nothing was sent."""
    cost_usd: float | None = None
    """None: unknown, which is not zero."""
    finish_reasons: tuple[str, ...] = ()
    streamed: bool = False
    aborted: bool = False
    """The agent went away before the answer's end."""
    cached: bool = False
    """Answered from the response cache, or from a recording: no upstream was asked."""
    request_bytes: int = Field(default=0, ge=0)
    response_bytes: int = Field(default=0, ge=0)
    digest: str = ""
    """Of the request, as `exchanges.jsonl` has it."""


class ToolCall(Call):
    """One call of a tool, also one that was refused."""

    number: int = Field(ge=1)
    """As `ModelCall.number`."""
    name: str
    """As the agent named it; hostile."""
    via: str
    """`http` or `mcp`."""
    arguments: JsonValue = None
    """At most 2,000 characters of JSON; more is in `exchanges.jsonl`, and here the text, cut."""
    result: JsonValue = None
    """The same."""
    succeeded: bool
    error: str = ""
    """What the agent was told instead of a result, one line."""
    refused: str = ""
    """Our code of the refusal; empty: the tool was called."""
    start_unix_nanos: int
    seconds: float = Field(ge=0)
    cached: bool = False
    digest: str = ""


class Divergence(Noun):
    """The first request of a replay that the recording does not have at its place."""

    number: int
    """Of the exchange in the replay."""
    recorded: dict[str, Any] | None
    """The request that the recording has there; None: it has ended."""
    requested: dict[str, Any]


class GatewayUse(Noun):
    """All that one attempt did through the gateway."""

    model_calls: tuple[ModelCall, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    excused_seconds: float = Field(default=0.0, ge=0)
    """In which a call waited for an upstream in trouble, and which the attempt's deadline was put
    off by; overlapping calls count once."""
    model_seconds: float = Field(default=0.0, ge=0)
    """In which at least one model call was under way, the excused ones left out."""
    over_budget: BudgetKind | None = None
    """The attempt's own budget that it met."""
    spent_out: bool = False
    """It met the whole run's budget instead: there is no verdict."""
    connections: int = Field(default=0, ge=0)
    divergence: Divergence | None = None
    """In a replay."""

    @property
    def tokens_input(self) -> int:
        """Of all model calls."""
        return sum(call.tokens_input for call in self.model_calls)

    @property
    def tokens_output(self) -> int:
        """Of all model calls."""
        return sum(call.tokens_output for call in self.model_calls)

    @property
    def cost_usd(self) -> float | None:
        """Of all model calls that were sent; None when one's is unknown, or none was sent."""
        costs = [call.cost_usd for call in self.model_calls if call.token_source]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if costs and len(known) == len(costs) else None


class ToolDefinition(Noun):
    """What an agent is told of a tool."""

    name: str = Field(pattern=r"^[a-zA-Z][a-zA-Z0-9_-]{0,63}$")
    description: str
    parameters: dict[str, JsonValue]
    """JSON Schema (2020-12) of an object."""


class ToolAnswer(Noun):
    """What a tool says: a result, or the reason why there is none."""

    result: JsonValue = None
    error: str = ""
    """One line for the agent; empty: it succeeded."""


class Spending(Noun):
    """One line of a run's `spending.jsonl`: what one model call used, however its attempt ended."""

    at: str
    """ISO 8601, UTC."""
    task_id: str
    repeat: int
    upstream: str
    model: str
    tokens_input: int
    tokens_output: int
    cost_usd: float | None
    cached: bool = False


ToolSetups = Mapping[str, Mapping[str, JsonValue]]
"""Settings of a task's tools by name: what the world of the task holds. Never the answer key."""
