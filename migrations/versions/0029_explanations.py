"""Explanations of scores, and the device of workers

Revision ID: 0029
Revises: 0028
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    time = sa.DateTime(timezone=True)
    op.create_table(
        "explanations",
        sa.Column(
            "id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="named by doorbell messages"
        ),
        sa.Column("image_id", sa.BigInteger(), nullable=False, comment="the version of the object"),
        sa.Column("profile", sa.Text(), nullable=False, comment="id of the profile whose student is explained"),
        sa.Column("state", sa.Text(), nullable=False, comment="written by the worker that makes it"),
        sa.Column("scorer_id", sa.Text(), nullable=True, comment="the student; set when it is ready"),
        sa.Column(
            "score", sa.Double(), nullable=True, comment="of the whole image by the student; set when it is ready"
        ),
        sa.Column(
            "effect",
            postgresql.ARRAY(sa.Double()),
            nullable=True,
            comment="8 x 8 cells, rows from the top: effect on the score; set when ready",
        ),
        sa.Column("error", sa.Text(), nullable=True, comment="why it cannot be made, in one line"),
        sa.Column(
            "created_at",
            time,
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
            comment="when it was requested",
        ),
        sa.Column("finished_at", time, nullable=True, comment="when it was ready or given up; NULL before"),
        sa.Column(
            "lease_until", time, nullable=True, comment="end of the lease of the worker that makes it; NULL: none does"
        ),
        sa.Column(
            "attempt",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="fence of the worker that makes it: each start adds 1",
        ),
        sa.Column(
            "crashes",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="workers that died while they made it",
        ),
        sa.CheckConstraint("state IN ('pending', 'ready', 'failed')", name=op.f("explanations_state_check")),
        sa.CheckConstraint("(state = 'pending') = (finished_at IS NULL)", name=op.f("explanations_finished_check")),
        sa.CheckConstraint("(state = 'ready') = (effect IS NOT NULL)", name=op.f("explanations_effect_check")),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("explanations_image_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("explanations_pkey")),
        sa.UniqueConstraint("image_id", "profile", name=op.f("explanations_image_id_profile_key")),
        comment="effects of the regions of images on their scores; removed a week after they were requested",
    )
    op.create_index(
        "explanations_pending",
        "explanations",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.add_column(
        "workers",
        sa.Column("device", sa.Text(), nullable=True, comment="what its scorer runs on; NULL: it does not say"),
    )


def downgrade() -> None:
    op.drop_column("workers", "device")
    op.drop_table("explanations")
