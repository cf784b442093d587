"""Callbacks of jobs

Revision ID: 0023
Revises: 0022
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    op.create_table(
        "callbacks",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False, comment="order of the requests"),
        sa.Column("job_id", sa.Uuid, nullable=False, comment="the job"),
        sa.Column("url", sa.Text, nullable=False, comment="URL that is told when the job ends"),
        sa.Column(
            "message_id",
            sa.Text,
            nullable=False,
            comment="webhook-id: the same for each attempt to tell of one end",
        ),
        sa.Column("state", sa.Text, nullable=False, comment="written by the worker that delivers it"),
        _counter("attempts", "how often it was sent, or tried to be"),
        sa.Column("status", sa.Integer, comment="HTTP status of the last attempt; NULL: there was no answer"),
        sa.Column("error", sa.Text, comment="why the last attempt failed; NULL: it did not"),
        sa.Column("due_at", TIME, nullable=False, server_default=NOW, comment="earliest time of the next attempt"),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW, comment="when it was asked for"),
        sa.Column("finished_at", TIME, comment="when it was delivered or given up; NULL before"),
        sa.Column("lease_until", TIME, comment="end of the lease of the worker that delivers it; NULL: none does"),
        _counter("attempt", "fence of that worker: each start adds 1"),
        sa.PrimaryKeyConstraint("id", name="callbacks_pkey"),
        sa.UniqueConstraint("job_id", name="callbacks_job_id_key"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="callbacks_job_id_fkey"),
        sa.CheckConstraint("state IN ('pending', 'delivered', 'failed')", name=op.f("callbacks_state_check")),
        comment="callbacks of jobs: asked for with a job, delivered at least once after it has ended",
    )
    op.create_index("callbacks_pending", "callbacks", ["due_at"], postgresql_where=sa.text("state = 'pending'"))


def _counter(name: str, comment: str) -> sa.Column:
    return sa.Column(name, sa.Integer, nullable=False, server_default="0", comment=comment)


def downgrade() -> None:
    op.drop_table("callbacks")
