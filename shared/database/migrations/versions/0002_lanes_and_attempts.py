"""Lanes, turns and windows; the attempts of a job and the chunks of a step"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database.models import (
    QUEUED_SQL,
    RUNG_SQL,
    RUNNING_SQL,
    UNRUNG_SQL,
    UtcDateTime,
)

revision = "0002"
down_revision = "0001"

#: As `shared/jobs/lanes.py` had them when this was written.
LANES = ("ai", "ai.bulk", "speech")
FIRST_WINDOW = 8


def upgrade() -> None:
    # Columns are added one by one: a copied table, Alembic's way on SQLite, would be dropped in
    # between, and the enrichments of all jobs with it.
    for column in (
        sa.Column("lane", sa.String(length=32), nullable=False, server_default="ai"),
        sa.Column("turn", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("errors", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("losses", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("rung_at", sa.Float(), nullable=True),
        sa.Column("rings", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("claimed_at", UtcDateTime(), nullable=True),
    ):
        op.add_column("jobs", column)
    op.execute("UPDATE jobs SET lane = queue, claimed_at = started_at")

    op.drop_index("ix_jobs_state_ring_after", "jobs")
    op.create_index("ix_jobs_state_finished_at", "jobs", ["state", "finished_at"])
    op.create_index("ix_jobs_content_key", "jobs", ["content_key"])
    for name, columns, where in (
        ("ix_jobs_unrung", ["lane", "turn", "created_at"], UNRUNG_SQL),
        ("ix_jobs_rung", ["lane", "turn", "created_at"], RUNG_SQL),
        ("ix_jobs_owners_turn", ["lane", "owner_id", "turn"], QUEUED_SQL),
        ("ix_jobs_running", ["worker"], RUNNING_SQL),
    ):
        op.create_index(
            name, "jobs", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
        )

    op.create_table(
        "job_attempts",
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("worker", sa.String(length=128), nullable=True),
        sa.Column("outcome", sa.String(length=64), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("ended_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_attempts_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_job_attempts")),
    )
    op.create_table(
        "job_chunks",
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("step", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_chunks_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "step", "number", name=op.f("pk_job_chunks")),
    )
    lanes = op.create_table(
        "lanes",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("window", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lanes")),
    )
    op.bulk_insert(
        lanes, [{"name": name, "paused": False, "window": FIRST_WINDOW} for name in LANES]
    )
    recurring = op.create_table(
        "recurring",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("done_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_recurring")),
    )
    op.bulk_insert(recurring, [{"name": "recovery", "done_at": 0.0}])


def downgrade() -> None:
    raise NotImplementedError("Restore a backup instead: going back would drop the archive.")
