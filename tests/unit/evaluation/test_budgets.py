"""What an attempt did through the gateway decides, is recorded, and may end the whole run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from runner.domain import (
    Api,
    BudgetKind,
    EventKind,
    ExecutionStatus,
    FailureReason,
    GatewayUse,
    ModelCall,
    Prompt,
    ResourceUsage,
    TokenSource,
    ToolCall,
)
from runner.errors import SpendingLimitReached
from runner.evaluation.claims import mismatches
from runner.evaluation.unguarded import AlwaysOpen
from runner.testing import FakeGateway, MemoryEvidence
from tests.unit.evaluation.plans import executor, named, plan, task


@pytest.fixture
def evidence() -> Iterator[MemoryEvidence]:
    with MemoryEvidence() as evidence:
        yield evidence


def call(number: int = 1, cost_usd: float | None = 0.5, **given: object) -> ModelCall:
    return ModelCall.model_validate(
        {
            "number": number,
            "api": Api.CHAT,
            "model": "m",
            "upstream": "u",
            "status": 200,
            "start_unix_nanos": 0,
            "seconds": 0.1,
            "tokens_input": 10,
            "tokens_output": 5,
            "token_source": TokenSource.PROVIDER,
            "cost_usd": cost_usd,
        }
        | given
    )


TOOL = ToolCall(
    number=3, name="t", via="http", succeeded=True, start_unix_nanos=0, seconds=0.0, result=1
)
TWO_CALLS = GatewayUse(
    model_calls=(call(1), call(2, token_source=TokenSource.ESTIMATE)),
    tool_calls=(TOOL,),
    model_seconds=1.5,
)


async def test_what_the_gateway_measured_is_the_usage(evidence: MemoryEvidence) -> None:
    gateway = FakeGateway(lambda _: TWO_CALLS)
    execution = await executor(evidence, named, gateway=gateway).execute_task(task("a"))
    used = execution.resource_usage
    assert (used.tokens_input, used.tokens_output, used.tokens_total) == (20, 10, 30)
    assert (used.cost_usd, used.model_seconds) == (1.0, 1.5)
    assert (used.api_calls_count, used.tool_calls_count) == (2, 1)
    assert used.token_source is TokenSource.ESTIMATE, "the least trustworthy of them"
    assert (execution.model_calls, execution.tool_calls) == (TWO_CALLS.model_calls, (TOOL,))
    assert execution.status is ExecutionStatus.COMPLETED
    assert (gateway.opened, gateway.live) == ([("a", 1)], 0)


async def test_a_cost_that_is_unknown_is_not_zero(evidence: MemoryEvidence) -> None:
    use = GatewayUse(model_calls=(call(1), call(2, cost_usd=None)))
    gateway = FakeGateway(lambda _: use)
    execution = await executor(evidence, named, gateway=gateway).execute_task(task("a"))
    assert execution.resource_usage.cost_usd is None


async def test_an_agent_that_calls_no_model_has_its_own_tokens_counted(
    evidence: MemoryEvidence,
) -> None:
    def count(texts: object) -> tuple[int, TokenSource]:
        return len("".join(texts)), TokenSource.TOKENIZER  # type: ignore[call-overload]

    execution = await executor(evidence, named, count_tokens=count).execute_task(task("a"))
    used = execution.resource_usage
    assert (used.tokens_input, used.tokens_output) == (len(execution.input), 1)
    assert used.token_source is TokenSource.TOKENIZER
    assert used.api_calls_count == 0


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (BudgetKind.TOKENS, FailureReason.TOKEN_BUDGET_EXCEEDED),
        (BudgetKind.COST, FailureReason.COST_BUDGET_EXCEEDED),
    ],
)
async def test_a_budget_that_was_met_decides_whatever_the_answer(
    evidence: MemoryEvidence, kind: BudgetKind, reason: FailureReason
) -> None:
    use = TWO_CALLS.model_copy(update={"over_budget": kind})
    gateway = FakeGateway(lambda _: use)
    execution = await executor(evidence, named, gateway=gateway).execute_task(task("a"))
    assert execution.status is ExecutionStatus.RESOURCE_EXCEEDED
    assert execution.failure_reason is reason
    assert execution.score is None
    assert "30 tokens in 2 calls" in execution.failure_detail
    assert execution.has_verdict, "it is not tried again"


async def test_a_spent_run_ends_without_a_verdict_and_with_what_was_spent(
    evidence: MemoryEvidence,
) -> None:
    spent = TWO_CALLS.model_copy(update={"spent_out": True})
    gateway = FakeGateway(lambda task_id: spent if task_id == "b" else TWO_CALLS)
    run = executor(evidence, named, gateway=gateway, given=plan("abc", parallelism=1))
    with pytest.raises(SpendingLimitReached) as caught:
        await run.execute_benchmark()
    assert caught.value.exit_code == 4
    kept = {each.execution.task_id: each.execution for each in evidence.kept}
    assert sorted(kept) == ["a", "b"], "nothing is begun after it"
    assert kept["a"].status is ExecutionStatus.COMPLETED
    assert not kept["b"].has_verdict
    assert kept["b"].attempt == 1, "nor tried again"
    assert kept["b"].resource_usage.tokens_total == 30
    assert kept["b"].model_calls == TWO_CALLS.model_calls
    assert evidence.finished is None
    assert EventKind.TASK_RETRIED not in [event.kind for event in evidence.events]


class Withdrawn(AlwaysOpen):
    """Told of the first attempt that says nothing; the runner knows why before others run."""

    def __init__(self) -> None:
        self.told = asyncio.Event()

    async def withdrawn(self) -> None:
        self.told.set()


async def test_tasks_in_progress_go_on_when_the_run_is_spent(evidence: MemoryEvidence) -> None:
    spent = GatewayUse(spent_out=True)
    gateway = FakeGateway(lambda task_id: spent if task_id == "a" else TWO_CALLS)
    begun, gate = asyncio.Event(), Withdrawn()

    async def agent(prompt: Prompt, config: object) -> str:
        if prompt.task_id == "b":
            begun.set()
            await gate.told.wait()
        await begun.wait()
        return named(prompt, config)

    given = plan("abcd", parallelism=2)
    run = executor(evidence, agent, gateway=gateway, gate=gate, given=given)
    with pytest.raises(SpendingLimitReached):
        await run.execute_benchmark()
    judged = [each.execution.task_id for each in evidence.kept if each.execution.has_verdict]
    assert judged == ["b"]
    assert gateway.live == 0


MEASURED = ResourceUsage(
    tokens_input=100, tokens_output=50, tool_calls_count=2, api_calls_count=3, cost_usd=1.0
)


@pytest.mark.parametrize(
    ("claims", "flagged"),
    [
        ({}, []),
        ({"input_tokens": 100, "completion_tokens": 50, "total_tokens": 150}, []),
        ({"cost": 1.009, "speed": 9}, []),
        ({"cost": 1.02}, ["cost: 1.02 claimed, 1.0 measured"]),
        ({"prompt_tokens": 1}, ["prompt_tokens: 1 claimed, 100 measured"]),
        ({"tool_calls": 2, "model_calls": 4}, ["model_calls: 4 claimed, 3 measured"]),
        ({"tokens": "none\x1b[2J"}, ["tokens: none\\x1b[2J claimed, 150 measured"]),
    ],
)
def test_claims_are_compared_and_count_for_nothing(
    claims: dict[str, int | float | str], flagged: list[str]
) -> None:
    assert list(mismatches(claims, MEASURED)) == flagged


def test_a_claim_about_a_cost_that_nobody_knows_is_no_mismatch() -> None:
    assert not mismatches({"cost": 5.0}, MEASURED.model_copy(update={"cost_usd": None}))


async def test_an_agents_own_failure_says_that_models_had_failed_it(
    evidence: MemoryEvidence,
) -> None:
    failed = call(2, status=502, refused="upstream_failed", token_source=None, cost_usd=None)
    gateway = FakeGateway(lambda _: GatewayUse(model_calls=(call(1), failed)))

    def crashing(_prompt: Prompt, _config: object) -> str:
        raise RuntimeError

    execution = await executor(evidence, crashing, gateway=gateway).execute_task(task("a"))
    assert execution.failure_reason is FailureReason.AGENT_ERROR, "it might have coped"
    assert execution.failure_detail.endswith("; 1 of its model calls had failed")
