"""The keys of jobs of kind list

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job_keys",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("job_keys_job_id_fkey")),
        sa.PrimaryKeyConstraint("job_id", "position", name=op.f("job_keys_pkey")),
    )


def downgrade() -> None:
    op.drop_table("job_keys")
