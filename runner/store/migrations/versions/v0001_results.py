"""Results, attempts and events: the index of the run directories."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the three tables."""
    op.create_table(
        "executions",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("submission_id", sa.Text(), nullable=False),
        sa.Column("submitter", sa.Text(), nullable=False),
        sa.Column("agent_name", sa.Text(), nullable=False),
        sa.Column("agent_version", sa.Text(), nullable=False),
        sa.Column("suite_name", sa.Text(), nullable=False),
        sa.Column("suite_version", sa.Text(), nullable=False),
        sa.Column("suite_digest", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("tasks", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=False),
        sa.Column("evidence", sa.Text()),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="executions_pkey"),
    )
    op.create_index("executions_by_score", "executions", ["suite_name", "suite_version", "score"])
    op.create_index("executions_by_time", "executions", ["started_at"])
    op.create_table(
        "attempts",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("repeat", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("is_final", sa.Boolean(), nullable=False),
        sa.Column("judged", sa.Boolean(), nullable=False),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("category", sa.Text()),
        sa.Column("status", sa.Text()),
        sa.Column("failure_reason", sa.Text()),
        sa.Column("score", sa.Float()),
        sa.Column("path", sa.Text()),
        sa.Column("document", sa.Text()),
        sa.PrimaryKeyConstraint("run_id", "task_id", "repeat", "attempt", name="attempts_pkey"),
    )
    op.create_index(
        "attempts_final",
        "attempts",
        ["run_id", "task_id", "repeat"],
        unique=True,
        sqlite_where=sa.text("is_final"),
        postgresql_where=sa.text("is_final"),
    )
    op.create_table(
        "events",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("source_number", sa.Integer()),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "number", name="events_pkey"),
        sa.UniqueConstraint(
            "run_id", "token", "source_number", name="events_run_id_token_source_number_key"
        ),
    )


def downgrade() -> None:
    """Drops them, and with them what only the run directories know then."""
    op.drop_table("events")
    op.drop_table("attempts")
    op.drop_table("executions")
