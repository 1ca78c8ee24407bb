"""Calls are values like all others, although they share what pydantic keeps of each."""

from __future__ import annotations

from runner.domain import Api, GatewayUse, ModelCall, TokenSource


def call(number: int, **given: object) -> ModelCall:
    known = {"number": number, "api": Api.CHAT, "model": "m", "status": 200}
    return ModelCall.model_validate(known | {"start_unix_nanos": 1, "seconds": 0.5} | given)


def test_calls_share_the_names_of_their_fields() -> None:
    one, other = call(1), call(2, cost_usd=1.0)
    assert one.model_fields_set is other.model_fields_set
    assert one.model_fields_set == set(ModelCall.model_fields)


def test_a_copy_and_a_round_trip_are_equal_and_change_no_other() -> None:
    one = call(1)
    assert ModelCall.model_validate_json(one.model_dump_json()) == one
    assert one.model_copy(update={"status": 429}).status == 429
    assert one == call(1)
    assert call(2).model_fields_set == set(ModelCall.model_fields)


def test_a_cost_is_known_where_that_of_every_call_that_was_sent_is() -> None:
    sent = {"token_source": TokenSource.PROVIDER}
    refused = call(3, refused="budget_exceeded")
    known = GatewayUse(model_calls=(call(1, cost_usd=0.5, **sent), refused))
    assert known.cost_usd == 0.5
    unknown = GatewayUse(model_calls=(call(1, cost_usd=0.5, **sent), call(2, **sent)))
    assert unknown.cost_usd is None
    assert GatewayUse(model_calls=(refused,)).cost_usd is None
