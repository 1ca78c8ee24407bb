"""AgentTrace Runner: evaluates untrusted AI agents, isolated and measured from outside."""

from __future__ import annotations
