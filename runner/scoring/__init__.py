"""Judgement: an answer and its key become a score; pure, in bounded time, whatever the answer."""

from __future__ import annotations

from runner.scoring.scorer import DefaultScorer

__all__ = ["DefaultScorer"]
