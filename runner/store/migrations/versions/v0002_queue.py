"""The queue, its quotas, breakers and workers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Makes the five tables."""
    op.create_table(
        "submitters",
        sa.Column("submitter", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("submitter", name="submitters_pkey"),
    )
    op.create_table(
        "jobs",
        sa.Column("arrival", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("submitter", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("not_before", sa.BigInteger()),
        sa.Column("submitted_at", sa.BigInteger(), nullable=False),
        sa.Column("claims", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("first_claimed_at", sa.BigInteger()),
        sa.Column("finished_at", sa.BigInteger()),
        sa.Column("requeued_at", sa.BigInteger()),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("failure_reason", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("beat", sa.Integer(), nullable=False),
        sa.Column("claim_id", sa.Text()),
        sa.Column("content_digest", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("submission", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("arrival", name="jobs_pkey"),
        sa.UniqueConstraint("run_id", name="jobs_run_id_key"),
        sa.UniqueConstraint("claim_id", name="jobs_claim_id_key"),
        sa.ForeignKeyConstraint(
            ["submitter"], ["submitters.submitter"], name="jobs_submitter_fkey"
        ),
    )
    op.create_index(
        "jobs_in_turn", "jobs", ["state", sa.text("priority DESC"), "turn", "arrival", "not_before"]
    )
    op.create_index(
        "jobs_claimed_turns",
        "jobs",
        ["priority", "turn"],
        sqlite_where=sa.text("claims > 0"),
        postgresql_where=sa.text("claims > 0"),
    )
    op.create_index("jobs_turns_of_submitter", "jobs", ["submitter", "priority", "turn"])
    op.create_index("jobs_by_end", "jobs", ["finished_at"])
    op.create_table(
        "quota_entries",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("submitter", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reserved_at", sa.BigInteger(), nullable=False),
        sa.Column("settled_at", sa.BigInteger()),
        sa.Column("refund_reason", sa.Text()),
        sa.PrimaryKeyConstraint("run_id", name="quota_entries_pkey"),
        sa.ForeignKeyConstraint(["run_id"], ["jobs.run_id"], name="quota_entries_run_id_fkey"),
        sa.ForeignKeyConstraint(
            ["submitter"], ["submitters.submitter"], name="quota_entries_submitter_fkey"
        ),
    )
    op.create_index("quota_entries_in_window", "quota_entries", ["submitter", "reserved_at"])
    op.create_table(
        "breakers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("update_id", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="breakers_pkey"),
    )
    op.create_table(
        "workers",
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("worker", name="workers_pkey"),
    )


def downgrade() -> None:
    """Drops them: jobs and quotas are gone then, results stay."""
    for name in ("workers", "breakers", "quota_entries", "jobs", "submitters"):
        op.drop_table(name)
