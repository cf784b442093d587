"""Removal of items that ended long ago

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


def downgrade() -> None:
    op.execute("DELETE FROM sweeps WHERE before IS NOT NULL")
    op.drop_column("sweeps", "before")
    op.drop_column("jobs", "pruned_at")
