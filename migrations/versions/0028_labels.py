"""Labels of images by people, and who saved a profile

Revision ID: 0028
Revises: 0026
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0028"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "labels",
        sa.Column("label_set", sa.Text, nullable=False, comment="name of the set that it belongs to"),
        sa.Column("image_id", sa.BigInteger, nullable=False, comment="the image that was looked at"),
        sa.Column("verdict", sa.Text, nullable=False, comment="what the person decided"),
        sa.Column("draw", JSONB, comment="what the image was drawn from at random; NULL: it was chosen"),
        sa.Column("labelled_by", sa.Text, nullable=False, comment="name of the key, bootstrap, local, or cli"),
        sa.Column(
            "labelled_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("clock_timestamp()"),
            comment="when it was labelled last",
        ),
        sa.PrimaryKeyConstraint("label_set", "image_id", name="labels_pkey"),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="labels_image_id_fkey"),
        sa.CheckConstraint("verdict IN ('accept', 'reject')", name=op.f("labels_verdict_check")),
        comment="verdicts of people about images, for choosing cut-offs",
    )
    op.create_index("labels_of_image", "labels", ["image_id"])
    op.add_column(
        "profiles",
        sa.Column("client", sa.Text, comment="name of the API key that saved it; NULL: no stored key did"),
    )
    op.execute("COMMENT ON TABLE profiles IS 'profiles that jobs used, or that were saved; never changed'")
    op.execute("COMMENT ON COLUMN profiles.first_seen_at IS 'when a job first used it, or it was saved'")


def downgrade() -> None:
    op.execute("COMMENT ON TABLE profiles IS 'profiles that jobs used; never changed'")
    op.execute("COMMENT ON COLUMN profiles.first_seen_at IS 'when a job first used it'")
    op.drop_column("profiles", "client")
    op.drop_table("labels")
