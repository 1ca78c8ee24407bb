"""Results, queue, quotas and breakers in SQL: SQLite or PostgreSQL, alike."""
