"""Hostile bytes become a validated submission: targets, manifests, static checks."""

from __future__ import annotations

from runner.intake.load import image_submission, load_submission

__all__ = ["image_submission", "load_submission"]
