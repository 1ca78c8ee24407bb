"""What an attempt used, of what was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runner.domain import MIB, Attempt, GatewayUse, ResourceUsage, TokenSource

NOTHING_USED = GatewayUse()

CountTokens = Callable[[Sequence[str]], tuple[int, TokenSource]]
"""Counts the tokens of some texts, where no model's provider did."""

_LEAST_TRUSTED_FIRST = (TokenSource.ESTIMATE, TokenSource.TOKENIZER, TokenSource.PROVIDER)


def usage(
    attempt: Attempt,
    use: GatewayUse = NOTHING_USED,
    count: CountTokens | None = None,
    asked: str = "",
) -> ResourceUsage:
    """What `attempt` used; its tokens are those of question and answer where it called no model."""
    reply, measured = attempt.reply, attempt.measurement
    written = reply.stdout_bytes + reply.stderr_bytes
    seen = ResourceUsage(
        execution_time_seconds=reply.wall_seconds,
        provider_wait_seconds=reply.provider_wait_seconds,
        output_bytes=max(reply.output_bytes, written),
    ).model_copy(update=_tokens(attempt, use, count, asked))
    if measured is None:
        return seen
    return seen.model_copy(
        update={
            "cpu_user_seconds": measured.cpu_user_seconds,
            "cpu_system_seconds": measured.cpu_system_seconds,
            "cpu_throttled_seconds": measured.cpu_throttled_seconds,
            "memory_peak_mb": measured.memory_peak_bytes / MIB,
            "memory_peak_source": measured.memory_peak_source,
            "oom_kills": measured.oom_kills,
            "pids_peak": measured.pids_peak,
            "network_bytes": measured.network_bytes,
        }
    )


def calls_usage(use: GatewayUse) -> dict[str, object]:
    """The fields of `ResourceUsage` that the gateway measured."""
    sources = {call.token_source for call in use.model_calls}
    return {
        "tokens_input": use.tokens_input,
        "tokens_output": use.tokens_output,
        "token_source": next((s for s in _LEAST_TRUSTED_FIRST if s in sources), None),
        "tool_calls_count": len(use.tool_calls),
        "api_calls_count": len(use.model_calls),
        "cost_usd": use.cost_usd,
        "model_seconds": use.model_seconds,
    }


def _tokens(
    attempt: Attempt, use: GatewayUse, count: CountTokens | None, asked: str
) -> dict[str, object]:
    called = calls_usage(use)
    if use.model_calls or count is None:
        return called
    tokens_input, source = count([asked])
    tokens_output, _ = count([attempt.reply.output])
    return called | {
        "tokens_input": tokens_input,
        "tokens_output": tokens_output,
        "token_source": source,
    }
