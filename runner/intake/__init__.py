"""Hostile bytes become a validated submission: targets, manifests, checks, files, the queue.

What `run` needs is here; checking, sealing and queueing are in `handler` and `sealing`, which load
a mail parser and a cipher.
"""

from __future__ import annotations

from runner.intake.archives import is_archive
from runner.intake.bundle import Received, receive, sweep
from runner.intake.load import check_source, image_submission, load_submission, read_submission
from runner.intake.tree import BundleLimits

__all__ = [
    "BundleLimits",
    "Received",
    "check_source",
    "image_submission",
    "is_archive",
    "load_submission",
    "read_submission",
    "receive",
    "sweep",
]
