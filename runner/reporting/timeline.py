"""A trace as a timeline: what happened in an attempt, when, and for how long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from runner.domain.trace import TraceEvaluation, TraceEvent, TraceSpan
from runner.reporting.console import inert, plain_table
from runner.reporting.escape import shorten

_TEXT_CHARACTERS = 1500
_BAR_COLUMNS = 24
_INDENT = 2
_LINE_CHARACTERS = 300
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
    for _, span in nested:
        _print_details(span, console)


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
    table = plain_table(
        "offset", "seconds", "", "span", right=("offset", "seconds"), fold=("span",)
    )
    for depth, span in nested:
        table.add_row(
            Text(f"+{(span.start_unix_nanos - start) / 1e9:.3f}"),
            Text(f"{span.seconds:.3f}"),
            _bar(span, start, end, console),
            Text(" " * _INDENT * depth) + inert(span.name, "red" if span.failed else ""),
        )
    return table


def _bar(span: TraceSpan, start: int, end: int, console: Console) -> Text:
    """Where the span lies within the trace; always at least one column of it."""
    scale = _BAR_COLUMNS / max(end - start, 1)
    first = min(int((span.start_unix_nanos - start) * scale), _BAR_COLUMNS - 1)
    last = max(first + 1, round((span.end_unix_nanos - start) * scale))
    mark = "#" if console.options.ascii_only else "━"
    return Text((" " * first + mark * (last - first)).ljust(_BAR_COLUMNS), style="cyan")


# -- what a span holds ---------------------------------------------------------------------------


def _print_details(span: TraceSpan, console: Console) -> None:
    if not (span.failed or span.events):
        return
    console.print()
    console.print(inert(span.name, "bold"))
    if span.failed:
        _print_indented(Text(shorten(f"failed  {span.failure}", _LINE_CHARACTERS), "red"), console)
    for event in span.events:
        _print_event(event, console)


def _print_event(event: TraceEvent, console: Console) -> None:
    if event.evaluation:
        _print_indented(_evaluation_line(event.evaluation), console)
        return
    _print_indented(inert(event.name, "dim"), console)
    for message in event.messages:
        _print_indented(Text(f"{shorten(message.role, 20)}:", style="cyan"), console)
        said = Text(shorten(message.text, _TEXT_CHARACTERS, newlines=True) or "(nothing)")
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
