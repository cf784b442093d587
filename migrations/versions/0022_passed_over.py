"""Watches count the objects of their events that are by name no image

Revision ID: 0022
Revises: 0021
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "watches",
        sa.Column(
            "passed_over",
            sa.BigInteger(),
            server_default=sa.literal_column("0"),
            nullable=False,
            comment="objects that events announced as created and that are by name no image",
        ),
    )


def downgrade() -> None:
    op.drop_column("watches", "passed_over")
