"""Keeps an evaluation host in order: what nobody needs any more goes, what a run needs stays."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime, timedelta

from runner.bootstrap.gateway import answer_caches
from runner.bootstrap.host import client_of, journals_of
from runner.bootstrap.image_use import image_use_of
from runner.bootstrap.request import CleanupReport
from runner.bootstrap.storing import has_store, store_of
from runner.config import Settings, state_directory
from runner.domain.removal import Cleaned, Removal, RemovalKind
from runner.engine import EngineClient
from runner.errors import NotSetUp
from runner.images.cleanup import ImageCleanup
from runner.images.setup import find_set_up
from runner.records.retention import (
    Keep,
    Retention,
    clean_build_logs,
    clean_runs,
    clean_submissions,
    clean_wheels,
)
from runner.sandbox.reaper import reap

DAY_SECONDS = 86400
KILLED = "left by a runner that was killed"


def cleanup(settings: Settings, *, dry_run: bool, everything: bool) -> CleanupReport:
    """Removes what killed runners left, what is too old, and images beyond the space allowed.

    With `everything`, also all images of submissions and what `set_up` made. Raises
    InfrastructureError.
    """
    keep = _wanted_by_the_queue(settings)

    async def clean() -> CleanupReport:
        with client_of(settings) as client:
            cleaned = await _engine_cleaned(settings, client, dry_run, everything)
        cleaned += _files_cleaned(settings, dry_run, keep)
        return CleanupReport(removals=cleaned.removed, spared=cleaned.kept)

    return asyncio.run(clean())


def _wanted_by_the_queue(settings: Settings) -> Keep | None:
    """Whether the job of a run id may still need its files; None where nothing was ever queued."""
    if not has_store(settings):
        return None
    ended_before = datetime.now(UTC) - timedelta(days=settings.retention.runs_days)
    with store_of(settings) as store:
        wanted = {
            job.run_id
            for job in store.queue.jobs()
            if not job.state.final or (job.finished_at or ended_before) > ended_before
        }
    return wanted.__contains__


async def _engine_cleaned(
    settings: Settings, client: EngineClient, dry_run: bool, everything: bool
) -> Cleaned:
    gone = await reap(client, journals_of(settings, client), dry_run=dry_run)
    reaped = [Removal(kind=RemovalKind.CONTAINER, name=name, why=KILLED) for name in gone]
    cleaned = Cleaned(removed=tuple(reaped))
    use = image_use_of(settings, client)
    images = await ImageCleanup.of(client, use, dry_run=dry_run, reaped=gone)
    cleaned += await images.interrupted_builds()
    if everything:
        cleaned += await images.everything()
    else:
        cleaned += await images.least_used(settings.retention.image_bytes)
        cleaned += await _superseded(settings, client, images)
    images.forget_gone()
    return cleaned


async def _superseded(settings: Settings, client: EngineClient, images: ImageCleanup) -> Cleaned:
    try:
        current = await find_set_up(client, base_reference=settings.images.base_reference)
    except NotSetUp:
        return Cleaned()
    return await images.superseded(current)


def _files_cleaned(settings: Settings, dry_run: bool, keep: Keep | None) -> Cleaned:
    runs = settings.storage.runs_dir.expanduser()
    state = state_directory(settings, os.environ)
    retention = _retention(settings, dry_run, keep)
    cleaned = clean_runs(runs, retention)
    if keep is not None:
        cleaned += clean_submissions(state / "submissions", retention)
    cleaned += clean_build_logs(state / "builds", retention)
    cleaned += _answers_cleaned(settings, dry_run)
    return cleaned + clean_wheels(state / "wheels", retention)


def _answers_cleaned(settings: Settings, dry_run: bool) -> Cleaned:
    """Answers of models and tools beyond the space that they may take."""
    most = settings.retention.cache_bytes
    removed = []
    for name, cache in zip(("models", "tools"), answer_caches(settings), strict=True):
        freed = cache.bytes_beyond(most) if dry_run else cache.prune(most)
        if freed:
            why = "cached answers beyond retention.cache_bytes"
            what = f"answers of {name}"
            removed.append(Removal(kind=RemovalKind.FILE, name=what, why=why, bytes_freed=freed))
    return Cleaned(removed=tuple(removed))


def _retention(settings: Settings, dry_run: bool, keep: Keep | None) -> Retention:
    days = settings.retention.runs_days
    return Retention(
        now=time.time(),
        seconds=days * DAY_SECONDS if days else None,
        keep=keep or (lambda _run_id: False),
        dry_run=dry_run,
    )
