"""Images count the news of access that come while a worker reads them

Revision ID: 0026
Revises: 0023
"""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "images",
        sa.Column(
            "access_news",
            sa.Integer(),
            server_default=sa.literal_column("0"),
            nullable=False,
            comment="news of access that came while a worker held one of its items",
        ),
    )


def downgrade() -> None:
    op.drop_column("images", "access_news")
