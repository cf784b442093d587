"""Uploads of manifests

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    now = sa.text("clock_timestamp()")
    op.create_table(
        "uploads",
        sa.Column("id", sa.Uuid(), nullable=False, comment="named by jobs.source"),
        sa.Column(
            "request_hash", sa.Text(), nullable=False, comment="SHA-256 (hex) of the request and of the first page"
        ),
        sa.Column("job_id", sa.Uuid(), comment="the job that was made of it; NULL: still being uploaded"),
        sa.Column(
            "fence",
            sa.Integer(),
            server_default=sa.literal_column("0"),
            nullable=False,
            comment="each command that begins or continues the upload adds 1, and only the last may write",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=now,
            nullable=False,
            comment="when its first page arrived",
        ),
        sa.Column(
            "seen_at",
            sa.DateTime(timezone=True),
            server_default=now,
            nullable=False,
            comment="when its last page arrived",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("uploads_pkey")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("uploads_job_id_fkey")),
        comment="manifests that were uploaded from a disk, a pipe or a request; deleted once they are listed",
    )
    op.create_index(
        "uploads_one_request", "uploads", ["request_hash"], unique=True, postgresql_where=sa.text("job_id IS NULL")
    )
    op.create_index("uploads_job", "uploads", ["job_id"])
    op.create_table(
        "upload_pages",
        sa.Column("upload_id", sa.Uuid(), nullable=False, comment="the upload"),
        sa.Column("position", sa.Integer(), nullable=False, comment="order in the manifest, from 1"),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the uncompressed objects"),
        sa.Column(
            "objects",
            sa.LargeBinary(),
            nullable=False,
            comment="some thousand objects: JSON columns, compressed by zlib",
        ),
        sa.PrimaryKeyConstraint("upload_id", "position", name=op.f("upload_pages_pkey")),
        sa.ForeignKeyConstraint(
            ["upload_id"], ["uploads.id"], name=op.f("upload_pages_upload_id_fkey"), ondelete="CASCADE"
        ),
        comment="objects of uploads, written by the command or request, read by the lister",
    )


def downgrade() -> None:
    op.drop_table("upload_pages")
    op.drop_table("uploads")
