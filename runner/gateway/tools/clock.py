"""A clock that the task sets; what time it really is, no agent learns from it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AwareDatetime, Field, JsonValue

from runner.domain import ToolAnswer, ToolDefinition
from runner.gateway.tools.setup import ToolSetup

_DEFAULT_NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
"""Not by `strftime`, which would ask the host's locale."""
_MOMENT: dict[str, JsonValue] = {"type": "string", "maxLength": 40}

_DEFINITION = ToolDefinition(
    name="clock",
    description=(
        "Tells the current time (now), the time of a moment in another time zone (convert), or the "
        "seconds from one moment to another (difference)."
    ),
    parameters={
        "type": "object",
        "properties": {
            "operation": {
                "type": "string",
                "enum": ["now", "convert", "difference"],
                "description": "Left out: now",
            },
            "timezone": {
                "type": "string",
                "maxLength": 64,
                "description": "Of the answer, and of moments without an offset; IANA name such "
                "as Europe/Vienna; left out: UTC",
            },
            "moment": {**_MOMENT, "description": "For convert: ISO 8601"},
            "start": {**_MOMENT, "description": "For difference: ISO 8601"},
            "end": {**_MOMENT, "description": "For difference: ISO 8601; left out: now"},
        },
        "additionalProperties": False,
    },
)


class ClockSetup(ToolSetup):
    """What time it is in the task's world."""

    now: AwareDatetime = _DEFAULT_NOW
    """ISO 8601 with an offset."""
    step_seconds: float = Field(default=0.0, ge=0, le=366 * 86_400)
    """By how much each call that tells the present advances it, after having told it."""


class Clock:
    """The task's time (`runner.ports.Tool`)."""

    def __init__(self, setup: ClockSetup) -> None:
        if not 1900 <= setup.now.year <= 2200:
            raise ValueError("now must be between the years 1900 and 2200")
        self._now = setup.now
        self._step = timedelta(seconds=setup.step_seconds)

    @property
    def definition(self) -> ToolDefinition:
        """What the agent is told of it."""
        return _DEFINITION

    @property
    def cacheable(self) -> bool:
        """Whether it stands still."""
        return not self._step

    async def call(self, arguments: Mapping[str, JsonValue]) -> ToolAnswer:
        """The present, or something about moments that the agent names."""
        try:
            return ToolAnswer(result=self._answer(arguments))
        except OverflowError:
            return ToolAnswer(error="that time is beyond the calendar")
        except ValueError as reason:
            return ToolAnswer(error=str(reason))

    def _answer(self, arguments: Mapping[str, JsonValue]) -> JsonValue:
        zone = _zone(str(arguments.get("timezone", "UTC")))
        match arguments.get("operation", "now"):
            case "convert":
                return _told(_moment(arguments, "moment", zone), zone)
            case "difference":
                start = _moment(arguments, "start", zone)
                end = _moment(arguments, "end", zone) if "end" in arguments else self._tick()
                seconds = (end.astimezone(UTC) - start.astimezone(UTC)).total_seconds()
                return {"seconds": int(seconds) if seconds.is_integer() else seconds}
            case _:
                return _told(self._tick(), zone)

    def _tick(self) -> datetime:
        now = self._now
        self._now = now + self._step
        return now


def _told(moment: datetime, zone: tzinfo) -> JsonValue:
    local = moment.astimezone(zone)
    weekday = _WEEKDAYS[local.weekday()]
    return {"time": local.isoformat(), "weekday": weekday, "timezone": str(zone)}


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # also where the host has no time zone database
    # A look-up among known names, since ZoneInfo makes paths of what it is given.
    if name not in _zone_names():
        raise ValueError("there is no time zone of that name; use one such as Europe/Vienna or UTC")
    return ZoneInfo(name)


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones())


def _moment(arguments: Mapping[str, JsonValue], name: str, zone: tzinfo) -> datetime:
    if name not in arguments:
        raise ValueError(f"{name} is missing")
    try:
        moment = datetime.fromisoformat(str(arguments[name]))
    except ValueError:
        raise ValueError(f"{name} is not ISO 8601, such as 2026-01-05T09:00:00+01:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)
