"""Removal of items that ended long ago; vacuum of items before a fifth of them is dead

An item is updated 3.35 times, never within its page, because the state is part of indexes (benchmarks/growth.py: 560 MB
per million items instead of 597 with the default, 709 instead of 786 after a second job; one run each).

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column(
        "jobs",
        sa.Column("pruned_at", TIME, comment="when the removal of its ended items was last requested; NULL: never"),
    )
    op.add_column(
        "sweeps",
        sa.Column("before", TIME, comment="prune: items that ended before it; NULL: all, of a job that was deleted"),
    )
    op.execute("ALTER TABLE items SET (autovacuum_vacuum_scale_factor = 0.05)")  # readers and writers go on


def downgrade() -> None:
    op.execute("ALTER TABLE items RESET (autovacuum_vacuum_scale_factor)")
    op.execute("DELETE FROM sweeps WHERE before IS NOT NULL")
    op.drop_column("sweeps", "before")
    op.drop_column("jobs", "pruned_at")
