"""Brings the index in the database up to what the run directories hold."""

from __future__ import annotations

import logging

from runner.config import Settings
from runner.records import unindexed_results
from runner.store import Store

_log = logging.getLogger(__name__)


def index_runs(settings: Settings, store: Store) -> int:
    """Enters finished runs that the database does not know, of whatever reason; how many.

    Also local ones, which never had a job, and those that a restored database has forgotten.
    Blocks. Raises StoreUnavailable.
    """
    known = store.ledger.indexed()
    found = 0
    for path, execution in unindexed_results(settings.storage.runs_dir.expanduser(), set(known)):
        store.ledger.index(execution, path.absolute())
        found += 1
    if found:
        _log.info("%d finished runs were not in the database", found)
    return found
