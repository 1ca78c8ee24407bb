"""A trace as a timeline: what happened in an attempt, when, and for how long."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from runner.domain.trace import (
    AttributeValue,
    TraceEvaluation,
    TraceEvent,
    TraceMessage,
    TraceSpan,
)
from runner.reporting.console import inert, plain_table
from runner.reporting.escape import shorten

_TEXT_CHARACTERS = 1500
_BAR_COLUMNS = 24
_INDENT = 2
_LINE_CHARACTERS = 300
_SUMMARY_CHARACTERS = 100
_CALL = "agenttrace.call."
_MARKS = ("cached", "aborted", "streamed")
_ARGUMENTS = "gen_ai.tool.call.arguments"
_RESULT = "gen_ai.tool.call.result"
_LABEL_STYLES = {"pass": "green", "partial": "yellow", "fail": "red"}


def render_trace(spans: Sequence[TraceSpan], console: Console) -> None:
    """Nested spans with offset, duration and a bar; then their events."""
    if not spans:
        console.print(Text("The trace is empty."))
        return
    console.print(inert(f"trace {spans[0].trace_id}", "dim"))
    console.print()
    nested = list(_nested(spans))
    console.print(_spans_table(nested, console))
    told: tuple[TraceMessage, ...] = ()
    for _, span in nested:
        told = _print_details(span, console, told)


def _nested(spans: Sequence[TraceSpan]) -> Iterator[tuple[int, TraceSpan]]:
    """Depth and span, parents before children, earlier before later; no span is lost or shown
    twice, even where parents are missing or go round in a circle.
    """
    by_id = {span.span_id: span for span in spans}
    depths = {id(span): _depth(span, by_id) for span in spans}
    for span in sorted(spans, key=lambda each: (each.start_unix_nanos, depths[id(each)])):
        yield depths[id(span)], span


def _depth(span: TraceSpan, by_id: Mapping[str, TraceSpan]) -> int:
    seen = {span.span_id}
    parent = by_id.get(span.parent_span_id)
    while parent is not None and parent.span_id not in seen:
        seen.add(parent.span_id)
        parent = by_id.get(parent.parent_span_id)
    return len(seen) - 1


def _spans_table(nested: Sequence[tuple[int, TraceSpan]], console: Console) -> Table:
    start = min(span.start_unix_nanos for _, span in nested)
    end = max(span.end_unix_nanos for _, span in nested)
    calls = any(_is_call(span) for _, span in nested)
    names = ("offset", "seconds", "", "span", *(("call",) if calls else ()))
    table = plain_table(*names, right=("offset", "seconds"), fold=("span", "call"))
    for depth, span in nested:
        row = [
            Text(f"+{(span.start_unix_nanos - start) / 1e9:.3f}"),
            Text(f"{span.seconds:.3f}"),
            _bar(span, start, end, console),
            Text(" " * _INDENT * depth)
            + Text(shorten(span.name, _LINE_CHARACTERS), "red" if span.failed else ""),
        ]
        table.add_row(*row, *((_call_summary(span),) if calls else ()))
    return table


def _is_call(span: TraceSpan) -> bool:
    return f"{_CALL}number" in span.attributes


def _call_summary(span: TraceSpan) -> Text:
    """Tokens, cost, why it ended, and what was unusual."""
    if not _is_call(span):
        return Text("")
    words = [*_figures(span.attributes), *_marks(span.attributes)]
    return Text(shorten("  ".join(words), _SUMMARY_CHARACTERS))


def _figures(values: Mapping[str, AttributeValue]) -> Iterator[str]:
    if "gen_ai.usage.input_tokens" in values:
        tokens = (values["gen_ai.usage.input_tokens"], values.get("gen_ai.usage.output_tokens", 0))
        source = values.get(f"{_CALL}token_source")
        counted = "" if source == "provider" else f" ({source})"
        yield f"{tokens[0]}+{tokens[1]} tokens{counted}"
        cost = values.get(f"{_CALL}cost_usd")
        yield f"${cost:.6f}" if isinstance(cost, float) else "cost unknown"
    yield from _finish_reasons(values.get("gen_ai.response.finish_reasons"))


def _finish_reasons(given: AttributeValue | None) -> Iterator[str]:
    try:
        reasons = json.loads(given) if isinstance(given, str) else []
    except ValueError:
        reasons = [given]
    yield from map(str, reasons if isinstance(reasons, list) else [reasons])


def _marks(values: Mapping[str, AttributeValue]) -> Iterator[str]:
    if refused := values.get(f"{_CALL}refused"):
        yield f"refused: {refused}"
    elif (status := values.get(f"{_CALL}status")) not in (None, 200):
        yield f"status {status}"
    elif values.get("agenttrace.tool.succeeded") is False:
        yield "failed"
    yield from (mark for mark in _MARKS if values.get(_CALL + mark) is True)
    if retries := values.get(f"{_CALL}retries"):
        yield f"{retries} retries"
    waited = values.get(f"{_CALL}waited_seconds")
    if isinstance(waited, float) and waited > 0:
        yield f"waited {waited:.1f} s"


def _bar(span: TraceSpan, start: int, end: int, console: Console) -> Text:
    """Where the span lies within the trace; always at least one column of it."""
    scale = _BAR_COLUMNS / max(end - start, 1)
    first = min(int((span.start_unix_nanos - start) * scale), _BAR_COLUMNS - 1)
    last = max(first + 1, round((span.end_unix_nanos - start) * scale))
    mark = "#" if console.options.ascii_only else "━"
    return Text((" " * first + mark * (last - first)).ljust(_BAR_COLUMNS), style="cyan")


# -- what a span holds ---------------------------------------------------------------------------


def _print_details(
    span: TraceSpan, console: Console, told: tuple[TraceMessage, ...]
) -> tuple[TraceMessage, ...]:
    """Prints what a span holds, without what was `told` by the call before; what was told now."""
    said_to_tool = [span.attributes.get(name) for name in (_ARGUMENTS, _RESULT)]
    if not (span.failed or span.events or any(said_to_tool)):
        return told
    console.print()
    console.print(Text(shorten(span.name, _LINE_CHARACTERS), "bold"))
    if span.failed:
        _print_indented(Text(shorten(f"failed  {span.failure}", _LINE_CHARACTERS), "red"), console)
    for name, value in zip(("arguments", "result"), said_to_tool, strict=True):
        if value is not None:
            _print_said(name, str(value), console)
    for event in span.events:
        known = _known(event.messages, told) if _is_call(span) else 0
        _print_event(event, console, known)
        if _is_call(span) and event.messages:
            told = event.messages
    return told


def _known(messages: Sequence[TraceMessage], told: Sequence[TraceMessage]) -> int:
    """How many messages a call has in common with the one before: agents tell all each time."""
    pairs = zip(messages, told, strict=False)
    return next(
        (n for n, (one, other) in enumerate(pairs) if one != other), min(len(messages), len(told))
    )


def _print_event(event: TraceEvent, console: Console, known: int = 0) -> None:
    if event.evaluation:
        _print_indented(_evaluation_line(event.evaluation), console)
        return
    _print_indented(inert(event.name, "dim"), console)
    if known:
        _print_indented(Text(f"({known} messages as in the call before)", "dim"), console)
    for message in event.messages[known:]:
        _print_said(message.role, message.text, console)


def _print_said(who: str, text: str, console: Console) -> None:
    _print_indented(Text(f"{shorten(who, 20)}:", style="cyan"), console)
    said = Text(shorten(text, _TEXT_CHARACTERS, newlines=True) or "(nothing)")
    _print_indented(said, console, deeper=True)


def _evaluation_line(evaluation: TraceEvaluation) -> Text:
    return Text("  ").join(
        (
            Text("evaluation", style="dim"),
            inert(evaluation.name),
            Text(f"{evaluation.points:g}"),
            inert(evaluation.label, _LABEL_STYLES.get(evaluation.label, "")),
            Text(shorten(evaluation.explanation, _LINE_CHARACTERS)),
        )
    )


def _print_indented(text: Text, console: Console, *, deeper: bool = False) -> None:
    console.print(Padding(text, (0, 0, 0, _INDENT * (2 if deeper else 1))))
