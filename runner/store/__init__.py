"""Results, queue, quotas and breakers in SQL: SQLite or PostgreSQL, alike."""

from __future__ import annotations

from runner.store.address import sqlite_url
from runner.store.store import Store, open_store

__all__ = ["Store", "open_store", "sqlite_url"]
