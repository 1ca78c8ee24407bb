"""Calls in a timeline: what is known is told, whatever stands in a damaged or hostile trace."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from runner.domain.trace import TraceEvent, TraceMessage, TraceSpan
from runner.reporting import render_trace


def call(number: int, *said: str, **attributes: Any) -> TraceSpan:
    told = tuple(TraceMessage(role="user", text=text) for text in said)
    event = TraceEvent(name="said", unix_nanos=2, messages=told)
    named = {name.replace("__", "."): value for name, value in attributes.items()}
    return TraceSpan(
        trace_id="t",
        span_id=str(number),
        name=f"chat m{number}",
        start_unix_nanos=number * 10**6,
        end_unix_nanos=number * 10**6 + 10,
        attributes={"agenttrace.call.number": number} | named,
        events=(event,) if told else (),
    )


def shown(*spans: TraceSpan) -> str:
    stream = io.StringIO()
    render_trace(spans, Console(file=stream, width=200, markup=False, emoji=False))
    return stream.getvalue()


def test_a_count_that_is_not_the_providers_says_whose_it_is() -> None:
    usage = {"gen_ai__usage__input_tokens": 5, "gen_ai__usage__output_tokens": 2}
    text = shown(call(1, **usage, agenttrace__call__token_source="estimate"))
    assert "5+2 tokens (estimate)  cost unknown" in text


def test_what_the_call_before_told_is_not_told_again() -> None:
    text = shown(call(1, "alpha", "beta"), call(2, "alpha", "beta", "gamma"), call(3, "other"))
    assert text.count("alpha") == text.count("beta") == 1
    assert "(2 messages as in the call before)" in text
    assert "gamma" in text
    assert "other" in text


def test_a_trace_without_calls_has_no_column_for_them() -> None:
    plain = TraceSpan(trace_id="t", span_id="1", name="ask", start_unix_nanos=0, end_unix_nanos=1)
    assert " call" not in shown(plain)
    assert " call" in shown(plain, call(2))


def test_hostile_attributes_are_inert_and_end_nothing() -> None:
    text = shown(
        call(
            1,
            "\x1b]0;owned\x07" * 3,
            gen_ai__usage__input_tokens="many\x1b[2J",
            gen_ai__response__finish_reasons='["\\u001b[31mstop", 7]',
            agenttrace__call__cost_usd="\u202efree",
            agenttrace__call__refused="[red]no[/red]\u202e",
            agenttrace__call__retries=True,
            agenttrace__call__waited_seconds="long",
        ),
        call(2, gen_ai__response__finish_reasons="{", gen_ai__tool__call__result="\x9b1m" * 9999),
        call(3, gen_ai__response__finish_reasons="3", agenttrace__tool__succeeded=False),
    )
    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(text)
    assert "[red]no[/red]\\u202e" in text
    assert "failed" in text
    assert len(text) < 20_000
