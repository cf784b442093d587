"""Measures of pictures, and jobs that ask for them

Revision ID: 0030
Revises: 0029
"""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "jobs",
        sa.Column(
            "details",
            sa.Boolean(),
            server_default=sa.literal_column("false"),
            nullable=False,
            comment="whether its pictures are measured",
        ),
    )
    op.create_table(
        "measures",
        sa.Column("image_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="the image"),
        sa.Column("width", sa.Integer(), nullable=False, comment="pixels of the decoded picture"),
        sa.Column("height", sa.Integer(), nullable=False, comment="pixels of the decoded picture"),
        _number("sharpness", "0 (blurred or flat) to 1"),
        _number("contrast", "0 to 1"),
        _number("clipped_dark", "share of the pixels that are black, 0 to 1"),
        _number("clipped_bright", "share of the pixels that are white, 0 to 1"),
        _number("noise", "standard deviation of the grain, luma steps of 255"),
        _number("blockiness", "0 or more: steps on JPEG's grid"),
        _number("colour_cast", "0 to about 0.6: distance of the mean colour from grey"),
        sa.PrimaryKeyConstraint("image_id", name="measures_pkey"),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="measures_image_id_fkey"),
        comment="measures of decoded pictures, for jobs that ask for details; never changed",
    )


def _number(name: str, comment: str) -> sa.Column:
    return sa.Column(name, sa.REAL(), comment=f"{comment}; NULL: the picture is too small")


def downgrade() -> None:
    op.drop_table("measures")
    op.drop_column("jobs", "details")
