"""Sources of jobs: their filters, and what was passed over

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COMMENTS = {  # column: new comment, old comment
    "kind": (
        "origin of its items: a prefix, a list, a manifest, an inventory, a folder, or events",
        "where its items come from: prefix (listed once), list (named keys), watch (events)",
    ),
    "bucket": ("bucket of all its images; empty where a manifest names several", "bucket of all its images"),
    "cursor": (
        "last key or row that was listed, as its source writes it; a lister resumes after it",
        "last key (prefix) or position (list) that was listed; a lister resumes after it",
    ),
}


def upgrade() -> None:
    op.add_column(
        "jobs",
        sa.Column(
            "source",
            postgresql.JSONB(),
            comment="address, format and filters of its source; NULL: all of the prefix or list",
        ),
    )
    op.add_column(
        "jobs",
        sa.Column(
            "tally",
            postgresql.JSONB(),
            comment="objects taken and passed over, and malformed rows, up to cursor; NULL: none",
        ),
    )
    for column, (new, old) in COMMENTS.items():
        op.alter_column("jobs", column, comment=new, existing_comment=old)


def downgrade() -> None:
    for column, (new, old) in COMMENTS.items():
        op.alter_column("jobs", column, comment=old, existing_comment=new)
    op.drop_column("jobs", "tally")
    op.drop_column("jobs", "source")
