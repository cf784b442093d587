"""Buckets that no worker reads for a while, because their latest fetches failed

Revision ID: 0021
Revises: 0020
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    op.create_table(
        "postponed_buckets",
        sa.Column("bucket", sa.Text, primary_key=True, comment="a bucket whose latest fetches failed"),
        sa.Column("times", sa.Integer, nullable=False, comment="tries in a row that failed; each doubles the delay"),
        sa.Column("detail", sa.Text, nullable=False, comment="the last error in words, up to 500 characters"),
        sa.Column("since", TIME, nullable=False, server_default=NOW, comment="when it was postponed first"),
        sa.Column(
            "until", TIME, nullable=False, server_default=NOW, comment="when it is tried again, by single fetches"
        ),
        comment="buckets that no worker reads for a while, written by workers; a row ends when tries succeed",
    )


def downgrade() -> None:
    op.drop_table("postponed_buckets")
