from __future__ import annotations

import asyncio
import re

import pytest

from runner.domain import Api, BudgetKind, Divergence, ModelCall, TokenSource, ToolCall
from runner.errors import InfrastructureError, StorageFailed, UsageError
from runner.gateway.ledger import OverBudget
from runner.gateway.session import Session
from runner.gateway.waits import Clockwork
from runner.ports import Connection, GatewayAccess
from tests.unit.gateway.connections import MemoryConnection


class Equipment:
    """Stands in for what serves: it holds each connection until it is cancelled."""

    def __init__(self) -> None:
        self.made = 0
        self.serving = 0
        self.settled = 0
        self.closed = False
        self.divergence: Divergence | None = None
        self.error: Exception | None = None
        self.begun = asyncio.Event()

    async def equip(self, _: Session) -> Equipment:
        self.made += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return self

    async def serve(self, connection: Connection) -> None:
        self.serving += 1
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # settling takes its time
            self.settled += 1

    async def aclose(self) -> None:
        assert self.settled == self.serving
        self.closed = True


@pytest.fixture
def equipment() -> Equipment:
    return Equipment()


@pytest.fixture
def session(equipment: Equipment) -> Session:
    return new_session(equipment)


def new_session(equipment: Equipment) -> Session:
    return Session(
        max_connections=3,
        clockwork=Clockwork(120, excuse_waits=True),
        equip=equipment.equip,
    )


def model_call(number: int, refused: str = "") -> ModelCall:
    return ModelCall(
        number=number,
        api=Api.CHAT,
        model="m",
        status=200,
        refused=refused,
        start_unix_nanos=1,
        seconds=1,
    )


def tool_call(number: int) -> ToolCall:
    return ToolCall(
        number=number, name="t", via="http", succeeded=True, start_unix_nanos=1, seconds=1
    )


def is_over(session: Session) -> bool:
    waiting = session.over()
    try:
        waiting.send(None)
    except StopIteration:
        return True
    finally:
        waiting.close()
    return False


async def test_it_is_the_access_of_an_attempt(session: Session) -> None:
    access: GatewayAccess = session
    assert access.max_connections == 3
    assert access.excused_seconds == 0


async def test_the_agent_is_told_where_everything_is(session: Session) -> None:
    assert re.fullmatch(r"at-[0-9a-f]{32}", session.key)
    assert session.environment == {
        "OPENAI_BASE_URL": "{url}/v1",
        "OPENAI_API_KEY": session.key,
        "ANTHROPIC_BASE_URL": "{url}",
        "ANTHROPIC_API_KEY": session.key,
        "AGENTTRACE_GATEWAY_URL": "{url}",
        "AGENTTRACE_GATEWAY_KEY": session.key,
    }


async def test_each_attempt_has_a_key_of_its_own(equipment: Equipment) -> None:
    assert len({new_session(equipment).key for _ in range(100)}) == 100


async def test_models_and_tools_are_numbered_together_and_told_in_order(session: Session) -> None:
    numbers = [session.next_number() for _ in range(4)]
    assert numbers == [1, 2, 3, 4]
    for number in (3, 1):
        session.note_model_call(model_call(number))
    for number in (4, 2):
        session.note_tool_call(tool_call(number))
    use = session.use()
    assert [call.number for call in use.model_calls] == [1, 3]
    assert [call.number for call in use.tool_calls] == [2, 4]


async def test_a_flood_of_refused_calls_is_told_of_in_part(session: Session) -> None:
    for _ in range(5000):
        session.note_model_call(model_call(session.next_number(), refused="invalid_json"))
    session.note_model_call(model_call(session.next_number()))
    calls = session.use().model_calls
    assert len(calls) == 1001
    assert calls[-1].number == 5001


async def test_a_flood_of_refused_calls_hides_none_that_used_anything(session: Session) -> None:
    for _ in range(2000):
        session.note_model_call(model_call(session.next_number(), refused="invalid_json"))
    broken = model_call(session.next_number(), refused="upstream_failed")
    counted = {"tokens_input": 7, "token_source": TokenSource.ESTIMATE}
    session.note_model_call(broken.model_copy(update=counted))
    assert session.use().tokens_input == 7


@pytest.mark.parametrize("kind", list(BudgetKind))
async def test_meeting_its_own_budget_ends_the_attempt(session: Session, kind: BudgetKind) -> None:
    assert not is_over(session)
    session.met_budget(OverBudget(kind))
    await session.over()
    assert session.use().over_budget is kind
    assert not session.use().spent_out


async def test_the_budget_that_was_met_first_is_the_one(session: Session) -> None:
    session.met_budget(OverBudget(BudgetKind.COST))
    session.met_budget(OverBudget(BudgetKind.TOKENS))
    assert session.use().over_budget is BudgetKind.COST


async def test_meeting_the_runs_budget_ends_the_attempt_without_a_verdict(
    session: Session,
) -> None:
    session.met_budget(OverBudget(BudgetKind.TOKENS, whole_run=True))
    await session.over()
    assert session.use().spent_out
    assert session.use().over_budget is None


async def test_too_many_calls_end_nothing(session: Session) -> None:
    session.met_budget(OverBudget(None))
    assert not is_over(session)
    assert session.use().over_budget is None


async def test_nothing_is_made_for_an_agent_that_never_connects(
    session: Session, equipment: Equipment
) -> None:
    await session.close()
    assert equipment.made == 0
    assert not equipment.closed


async def test_it_is_equipped_once_for_many_connections_and_closed_with_all_settled(
    session: Session, equipment: Equipment
) -> None:
    connections = [MemoryConnection() for _ in range(20)]
    serving = [asyncio.create_task(session.serve(each)) for each in connections]
    await equipment.begun.wait()
    await session.close()
    await asyncio.gather(*serving)
    assert equipment.made == 1
    assert equipment.closed
    assert all(each.closed for each in connections)
    assert session.use().connections == 20


async def test_after_its_end_no_connection_is_served(
    session: Session, equipment: Equipment
) -> None:
    await session.close()
    late = MemoryConnection()
    await session.serve(late)
    assert late.closed
    assert equipment.made == 0


async def test_who_cancels_a_connection_finds_it_settled(
    session: Session, equipment: Equipment
) -> None:
    connection = MemoryConnection()
    serving = asyncio.create_task(session.serve(connection))
    await equipment.begun.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert equipment.settled == 1
    assert connection.closed


async def test_a_task_that_cannot_be_equipped_is_no_verdict(
    session: Session, equipment: Equipment
) -> None:
    equipment.error = UsageError("the recording is damaged", remedy="record it again")
    for _ in range(2):
        connection = MemoryConnection()
        await session.serve(connection)
        assert connection.closed
    await session.over()
    assert equipment.made == 1
    with pytest.raises(InfrastructureError, match=r"the recording is damaged \(record it again\)"):
        session.raise_failure()


async def test_the_first_failure_of_ours_is_raised_as_it_is(session: Session) -> None:
    first = StorageFailed("disk full")
    session.fail(first)
    session.fail(StorageFailed("another"))
    await session.over()
    with pytest.raises(StorageFailed) as raised:
        session.raise_failure()
    assert raised.value is first


async def test_a_bug_in_serving_is_logged_and_raises_nothing(
    session: Session, equipment: Equipment, caplog: pytest.LogCaptureFixture
) -> None:
    equipment.error = ZeroDivisionError()
    await session.serve(MemoryConnection())
    assert "could not be served" in caplog.text
    session.raise_failure()


async def test_where_a_replay_diverged_is_told(session: Session, equipment: Equipment) -> None:
    equipment.divergence = Divergence(number=1, recorded=None, requested={})
    serving = asyncio.create_task(session.serve(MemoryConnection()))
    await equipment.begun.wait()
    assert session.use().divergence == equipment.divergence
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    await session.close()
