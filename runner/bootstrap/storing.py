"""The store, and the key, that the settings name."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from runner.config import Settings, state_directory
from runner.intake.sealing import Sealer
from runner.store import Store, open_store, sqlite_url

DATABASE_NAME = "agenttrace.db"
KEY_NAME = "secret.key"


def has_store(settings: Settings) -> bool:
    """Whether there is a database: a laptop that never queued anything has none."""
    named = bool(settings.storage.database_url.get_secret_value())
    return named or (state_directory(settings, os.environ) / DATABASE_NAME).exists()


def store_of(settings: Settings) -> AbstractContextManager[Store]:
    """The database with queue, quotas, results and breakers, ready for use.

    Raises StoreUnavailable, InvalidConfiguration.
    """
    return open_store(database_url(settings), settings.storage.database_patience_seconds)


def database_url(settings: Settings) -> str:
    """Where the database is, or would be made."""
    return settings.storage.database_url.get_secret_value() or sqlite_url(
        state_directory(settings, os.environ) / DATABASE_NAME
    )


def sealer_of(settings: Settings) -> Sealer:
    """What seals and unseals the credentials of queued submissions."""
    if settings.storage.key_file:
        return Sealer(Path(settings.storage.key_file).expanduser())
    return Sealer(state_directory(settings, os.environ) / KEY_NAME)
