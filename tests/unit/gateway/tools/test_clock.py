"""The clock tells the task's time and no other."""

from __future__ import annotations

import pytest

from tests.unit.gateway.tools.asking import ask, error, tool


async def test_the_present_is_what_the_task_sets() -> None:
    clock = tool("clock", now="2026-03-29T00:30:00+01:00")
    assert await ask(clock) == {
        "time": "2026-03-28T23:30:00+00:00",
        "weekday": "Saturday",
        "timezone": "UTC",
    }
    assert (await ask(clock, timezone="Europe/Vienna"))["time"] == "2026-03-29T00:30:00+01:00"
    assert clock.cacheable


async def test_without_a_setup_it_is_always_the_same_moment() -> None:
    assert (await ask(tool("clock")))["time"] == "2026-01-05T09:00:00+00:00"


async def test_a_stepping_clock_goes_on_with_each_look() -> None:
    clock = tool("clock", now="2026-01-01T00:00:00Z", step_seconds=90)
    assert [(await ask(clock))["time"][11:19] for _ in range(3)] == [
        "00:00:00",
        "00:01:30",
        "00:03:00",
    ]
    await ask(clock, operation="convert", moment="2026-01-01T00:00:00Z")  # no look at the present
    assert (await ask(clock))["time"][11:19] == "00:04:30"
    assert not clock.cacheable


async def test_moments_are_converted() -> None:
    clock = tool("clock")
    told = await ask(
        clock, operation="convert", moment="2026-07-01T12:00:00Z", timezone="Asia/Kathmandu"
    )
    assert told["time"] == "2026-07-01T17:45:00+05:45"
    local = await ask(clock, operation="convert", moment="2026-07-01T12:00", timezone="Asia/Tokyo")
    assert local["time"] == "2026-07-01T12:00:00+09:00"


async def test_differences_are_of_real_time() -> None:
    """In the night of 29 March 2026 an hour is left out in Vienna."""
    clock = tool("clock", now="2026-03-29T12:00:00+02:00")
    night = {"start": "2026-03-29T00:00", "end": "2026-03-29T04:00", "timezone": "Europe/Vienna"}
    assert await ask(clock, operation="difference", **night) == {"seconds": 3 * 3600}
    till_now = await ask(clock, operation="difference", start="2026-03-29T10:00:00.5Z")
    assert till_now == {"seconds": -0.5}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"timezone": "../../etc/passwd"}, "no time zone of that name"),
        ({"timezone": "europe/vienna"}, "no time zone of that name"),
        ({"timezone": "a\0"}, "no time zone of that name"),
        ({"operation": "convert"}, "moment is missing"),
        ({"operation": "convert", "moment": "yesterday"}, "moment is not ISO 8601"),
        ({"operation": "difference"}, "start is missing"),
        (
            {"operation": "convert", "moment": "0001-01-01T00:00Z", "timezone": "America/Lima"},
            "beyond the calendar",
        ),
    ],
)
async def test_what_it_cannot_tell(arguments: dict[str, str], reason: str) -> None:
    assert reason in await error(tool("clock"), **arguments)


async def test_time_that_runs_out_is_an_error() -> None:
    clock = tool("clock", now="2200-12-31T00:00:00Z", step_seconds=366 * 86_400)
    clock._now = clock._now.replace(year=9999)  # type: ignore[attr-defined]
    assert "beyond the calendar" in await error(clock)
