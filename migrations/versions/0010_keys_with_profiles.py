"""Unique keys of items and counts that name the profile, and of computed scores by content

On a populated database the keys without the profile stay: the previous release inserts with ON CONFLICT on them. The
first job of several profiles drops them (`dpiqa.storage.job_profiles`).

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = '10min'")  # these builds wait for old transactions and block no one meanwhile
        # An interrupted build leaves an invalid index behind.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS items_job_id_image_id_profile_key")
        op.execute(
            "CREATE UNIQUE INDEX CONCURRENTLY items_job_id_image_id_profile_key ON items (job_id, image_id, profile)"
        )
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS scores_one_content")
        op.execute(
            "CREATE UNIQUE INDEX CONCURRENTLY scores_one_content ON scores "
            "(content_hash, hashtextextended(scorer_id, 0)) "
            "WHERE content_hash IS NOT NULL AND copied_from IS NULL"
        )
        op.execute("SET lock_timeout = '2s'")
    op.execute("CREATE UNIQUE INDEX job_counts_with_profile ON job_counts (job_id, stage, state, reason, profile)")
    op.execute(
        "ALTER TABLE items ADD CONSTRAINT items_job_id_image_id_profile_key "
        "UNIQUE USING INDEX items_job_id_image_id_profile_key"
    )
    if not op.get_bind().execute(sa.text("SELECT EXISTS (SELECT FROM items)")).scalar_one():
        op.execute("ALTER TABLE items DROP CONSTRAINT items_job_id_image_id_key")
        op.execute(
            "ALTER TABLE job_counts DROP CONSTRAINT job_counts_pkey, "
            "ADD CONSTRAINT job_counts_pkey PRIMARY KEY USING INDEX job_counts_with_profile"
        )


def downgrade() -> None:
    op.execute("DELETE FROM items WHERE profile <> ''")
    op.execute("DELETE FROM count_changes WHERE profile <> ''")
    op.execute("DELETE FROM job_counts WHERE profile <> ''")
    op.execute("ALTER TABLE job_counts DROP CONSTRAINT job_counts_pkey")
    op.execute("DROP INDEX IF EXISTS job_counts_with_profile")
    op.execute("ALTER TABLE job_counts ADD CONSTRAINT job_counts_pkey PRIMARY KEY (job_id, stage, state, reason)")
    op.execute("ALTER TABLE items DROP CONSTRAINT items_job_id_image_id_profile_key")
    op.execute("ALTER TABLE items DROP CONSTRAINT IF EXISTS items_job_id_image_id_key")
    op.execute("ALTER TABLE items ADD CONSTRAINT items_job_id_image_id_key UNIQUE (job_id, image_id)")
    op.execute("DROP INDEX scores_one_content")
