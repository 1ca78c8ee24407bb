"""The tables as the newest migration leaves them; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    UniqueConstraint,
    text,
)

from runner.store.columns import Instant, Words

HEAD = "0002"
"""The newest migration."""

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    }
)

# -- results (migration 0001) --------------------------------------------------------------------
# The run directory is the truth: all of this can be made again from it.

executions = Table(
    "executions",
    metadata,
    Column("run_id", Words, primary_key=True),
    Column("submission_id", Words, nullable=False),
    Column("submitter", Words, nullable=False),  # empty: the run was not queued
    Column("agent_name", Words, nullable=False),
    Column("agent_version", Words, nullable=False),
    Column("suite_name", Words, nullable=False),
    Column("suite_version", Words, nullable=False),
    Column("suite_digest", Words, nullable=False),
    Column("status", Words, nullable=False),
    Column("score", Float, nullable=False),  # 0 to 100
    Column("tasks", Integer, nullable=False),  # final attempts
    Column("started_at", Instant, nullable=False),
    Column("finished_at", Instant, nullable=False),
    Column("evidence", Words),
    Column("document", Words, nullable=False),
    Index("executions_by_score", "suite_name", "suite_version", "score"),
    Index("executions_by_time", "started_at"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("run_id", Words, primary_key=True),
    Column("task_id", Words, primary_key=True),
    Column("repeat", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("token", Integer, nullable=False),  # of the lease under which it was begun
    Column("state", Words, nullable=False),  # begun, kept
    Column("is_final", Boolean, nullable=False),
    Column("judged", Boolean, nullable=False),
    Column("begun_at", Instant, nullable=False),
    Column("category", Words),
    Column("status", Words),
    Column("failure_reason", Words),
    Column("score", Float),  # 0 to 100
    Column("path", Words),
    # The last column: a scan of the others does not touch the pages that it overflows into.
    Column("document", Words),
)
Index(
    "attempts_final",
    attempts.c.run_id,
    attempts.c.task_id,
    attempts.c.repeat,
    unique=True,
    sqlite_where=attempts.c.is_final,
    postgresql_where=attempts.c.is_final,
)

events = Table(
    "events",
    metadata,
    Column("run_id", Words, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),  # from 1, without gaps
    Column("token", Integer, nullable=False),  # of the lease that wrote it; 0: none
    Column("source_number", Integer),  # its writer's own number; none for the store's own events
    Column("kind", Words, nullable=False),
    Column("at", Instant, nullable=False),
    Column("document", Words, nullable=False),
    UniqueConstraint("run_id", "token", "source_number"),
)

# -- the queue (migration 0002) ------------------------------------------------------------------

submitters = Table("submitters", metadata, Column("submitter", Words, primary_key=True))
"""A row to lock while a submitter's quota is counted and its turn is given."""

jobs = Table(
    "jobs",
    metadata,
    Column("arrival", Integer, primary_key=True),
    Column("run_id", Words, nullable=False, unique=True),
    Column("submitter", Words, ForeignKey(submitters.c.submitter), nullable=False),
    Column("state", Words, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("turn", BigInteger, nullable=False),
    Column("not_before", Instant),
    Column("submitted_at", Instant, nullable=False),
    Column("claims", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("first_claimed_at", Instant),
    Column("finished_at", Instant),
    Column("requeued_at", Instant),
    Column("note", Words, nullable=False),
    Column("failure_reason", Words, nullable=False),
    # The lease.
    Column("worker", Words, nullable=False),
    Column("host", Words, nullable=False),
    Column("token", Integer, nullable=False),
    Column("beat", Integer, nullable=False),
    Column("claim_id", Words, unique=True),
    # What was handed in.
    Column("content_digest", Words, nullable=False),
    Column("options", Words, nullable=False),
    Column("submission", Words, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)
Index(  # the order of claiming; not_before is there so that jobs not yet due are passed quickly
    "jobs_in_turn",
    jobs.c.state,
    jobs.c.priority.desc(),
    jobs.c.turn,
    jobs.c.arrival,
    jobs.c.not_before,
)
EVER_CLAIMED = text("claims > 0")
"""In the words of the index: SQLite uses it for no others."""
Index(
    "jobs_claimed_turns",
    jobs.c.priority,
    jobs.c.turn,
    sqlite_where=EVER_CLAIMED,
    postgresql_where=EVER_CLAIMED,
)
Index("jobs_turns_of_submitter", jobs.c.submitter, jobs.c.priority, jobs.c.turn)
Index("jobs_by_end", jobs.c.finished_at)

quota_entries = Table(
    "quota_entries",
    metadata,
    Column("run_id", Words, ForeignKey(jobs.c.run_id), primary_key=True),
    Column("submitter", Words, ForeignKey(submitters.c.submitter), nullable=False),
    Column("state", Words, nullable=False),
    Column("reserved_at", Instant, nullable=False),
    Column("settled_at", Instant),
    Column("refund_reason", Words),
    Index("quota_entries_in_window", "submitter", "reserved_at"),
)

breakers = Table(
    "breakers",
    metadata,
    Column("name", Words, primary_key=True),
    Column("update_id", Words, nullable=False),
    Column("document", Words, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("worker", Words, primary_key=True),
    Column("host", Words, nullable=False),
    Column("seen_at", Instant, nullable=False),
    Column("document", Words, nullable=False),
)
