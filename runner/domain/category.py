"""How tasks are sorted: by what they ask of an agent, and by how hard they are."""

from __future__ import annotations

from enum import StrEnum


class BenchmarkCategory(StrEnum):
    """What a task asks of an agent."""

    REASONING = "reasoning"
    TOOL_USE = "tool_use"
    PLANNING = "planning"
    GROUNDING = "grounding"
    ROBUSTNESS = "robustness"
    EFFICIENCY = "efficiency"


class Difficulty(StrEnum):
    """How hard a task is, by its author's judgement."""

    BASIC = "basic"
    INTERMEDIATE = "intermediate"
    ADVANCED = "advanced"
    EXPERT = "expert"
