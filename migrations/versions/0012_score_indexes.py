"""Indexes of pages of scores: newest of a bucket, worst of a prefix, provisional results

Made without locking `results`. One that was interrupted is left invalid: the next attempt replaces it.

Revision ID: 0012
Revises: 0011
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_BIN = "CAST(least(greatest(floor(score * 1000), -1000), 2000) AS smallint)"
INDEXES = {
    "results_by_bucket_time": "(profile, bucket, updated_at, image_id) WHERE current",
    "results_by_bin": f"(profile, bucket, ({_BIN}), key text_pattern_ops) WHERE current",
    "results_provisional": "(profile, score, image_id) WHERE current AND status = 'provisional'",
    "results_provisional_of_bucket": "(profile, bucket, score, image_id) WHERE current AND status = 'provisional'",
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("SET statement_timeout = '6h'")
        for name, definition in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON results {definition}")
        op.execute("SET statement_timeout = '30min'")
    op.execute("ANALYZE results")  # statistics of the expression


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
