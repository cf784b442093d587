"""The ledger's tables

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

#: Children first.
TABLES = (
    "scores",
    "results",
    "items",
    "jobs",
    "workers",
    "scorers",
    "profiles",
    "job_counts",
    "images",
    "count_changes",
)


def upgrade() -> None:
    op.create_table(
        "count_changes",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
    )
    op.create_index("count_changes_job", "count_changes", ["job_id"], unique=False)
    op.create_table(
        "images",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("last_modified", sa.DateTime(timezone=True), nullable=True),
        sa.Column("news_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sequencer", sa.Text(), nullable=True),
        sa.Column("current", sa.Boolean(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "first_seen_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("NOT current OR deleted_at IS NULL", name=op.f("images_current_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("images_pkey")),
        sa.UniqueConstraint("bucket", "key", "etag", name=op.f("images_bucket_key_etag_key")),
    )
    op.create_index("images_one_current", "images", ["bucket", "key"], unique=True, postgresql_where=sa.text("current"))
    op.create_table(
        "job_counts",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "stage", "state", "reason", name=op.f("job_counts_pkey")),
    )
    op.create_table(
        "profiles",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("definition", postgresql.JSONB(), nullable=False),
        sa.Column(
            "first_seen_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("profiles_pkey")),
    )
    op.create_table(
        "scorers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("card", postgresql.JSONB(), nullable=False),
        sa.Column(
            "first_seen_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("scorers_pkey")),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("scorer_id", sa.Text(), nullable=False),
        sa.Column(
            "started_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("workers_pkey")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("listed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cursor", sa.Text(), nullable=True),
        sa.Column("listing_lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("listing_attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("request_hash", sa.Text(), nullable=True),
        sa.Column("scored_by_student", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("escalated", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(kind = 'watch') = (state = 'watching') OR state IN ('complete', 'failed')", name=op.f("jobs_watch_check")
        ),
        sa.CheckConstraint("queue IN ('live', 'bulk')", name=op.f("jobs_queue_check")),
        sa.CheckConstraint(
            "state IN ('listing', 'running', 'watching', 'complete', 'failed')", name=op.f("jobs_state_check")
        ),
        sa.ForeignKeyConstraint(["profile"], ["profiles.id"], name=op.f("jobs_profile_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("jobs_pkey")),
        sa.UniqueConstraint("idempotency_key", name=op.f("jobs_idempotency_key_key")),
    )
    op.create_index("jobs_newest", "jobs", ["created_at", "id"], unique=False)
    op.create_index(
        "jobs_one_watch",
        "jobs",
        ["bucket", "prefix", "profile"],
        unique=True,
        postgresql_where=sa.text("state = 'watching'"),
    )
    op.create_index(
        "jobs_open",
        "jobs",
        ["state"],
        unique=False,
        postgresql_where=sa.text("state IN ('listing', 'running', 'watching')"),
    )
    op.create_table(
        "items",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("crashes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("errors", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "not_before", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("rung_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("route", sa.Text(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(state = 'leased') = (lease_until IS NOT NULL)", name=op.f("items_lease_check")),
        sa.CheckConstraint(
            "(state IN ('queued', 'leased')) = (finished_at IS NULL)", name=op.f("items_finished_check")
        ),
        sa.CheckConstraint("stage IN ('student', 'teacher')", name=op.f("items_stage_check")),
        sa.CheckConstraint(
            "state IN ('queued', 'leased', 'scored') AND reason IS NULL"
            " OR state = 'dead' AND reason IN ('repeated_errors', 'worker_crashes')"
            " OR state = 'deleted' AND reason IN ('object_deleted')"
            " OR state = 'rejected' AND reason IN ('access_denied', 'archived', 'corrupt', 'decode_crash', "
            "'decode_timeout', 'device_memory', 'empty', 'non_finite_score', 'not_an_image', "
            "'too_many_bytes', 'too_many_pixels', 'truncated', 'unsupported_format')"
            " OR state = 'superseded' AND reason IN ('newer_version')",
            name=op.f("items_reason_check"),
        ),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("items_image_id_fkey")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("items_job_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("items_pkey")),
        sa.UniqueConstraint("job_id", "image_id", name=op.f("items_job_id_image_id_key")),
    )
    op.create_index(
        "items_leased", "items", ["lease_until"], unique=False, postgresql_where=sa.text("state = 'leased'")
    )
    op.create_index(
        "items_open_image",
        "items",
        ["image_id"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'leased')"),
    )
    op.create_index(
        "items_rung",
        "items",
        ["job_id", "queue", "rung_at"],
        unique=False,
        postgresql_where=sa.text("state = 'queued' AND rung_at IS NOT NULL"),
    )
    op.create_index(
        "items_suspect", "items", ["owner"], unique=False, postgresql_where=sa.text("state = 'leased' AND crashes > 0")
    )
    op.create_index(
        "items_unrung",
        "items",
        ["job_id", "queue", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'queued' AND rung_at IS NULL"),
    )
    op.create_index(
        "items_unscored",
        "items",
        ["job_id", "state", "image_id"],
        unique=False,
        postgresql_where=sa.text("state IN ('rejected', 'superseded', 'deleted', 'dead')"),
    )
    op.create_table(
        "results",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("scorer_id", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("student_score", sa.Double(), nullable=True),
        sa.Column("teacher_score", sa.Double(), nullable=True),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("current", sa.Boolean(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column(
            "updated_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("score > '-Infinity' AND score < 'Infinity'", name=op.f("results_score_finite_check")),
        sa.CheckConstraint("status IN ('provisional', 'final')", name=op.f("results_status_check")),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("results_image_id_fkey")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("results_job_id_fkey")),
        sa.ForeignKeyConstraint(["profile"], ["profiles.id"], name=op.f("results_profile_fkey")),
        sa.ForeignKeyConstraint(["scorer_id"], ["scorers.id"], name=op.f("results_scorer_id_fkey")),
        sa.PrimaryKeyConstraint("image_id", "profile", name=op.f("results_pkey")),
    )
    op.create_index(
        "results_by_bucket_score",
        "results",
        ["profile", "bucket", "score", "image_id"],
        unique=False,
        postgresql_where=sa.text("current"),
    )
    op.create_index(
        "results_by_key", "results", ["bucket", "key"], unique=False, postgresql_ops={"key": "text_pattern_ops"}
    )
    op.create_index(
        "results_by_score",
        "results",
        ["profile", "score", "image_id"],
        unique=False,
        postgresql_where=sa.text("current"),
    )
    op.create_index(
        "results_by_time",
        "results",
        ["profile", "updated_at", "image_id"],
        unique=False,
        postgresql_where=sa.text("current"),
    )
    op.create_table(
        "scores",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("scorer_id", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=True),
        sa.Column("scored_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("score > '-Infinity' AND score < 'Infinity'", name=op.f("scores_score_finite_check")),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("scores_image_id_fkey")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("scores_job_id_fkey")),
        sa.ForeignKeyConstraint(["scorer_id"], ["scorers.id"], name=op.f("scores_scorer_id_fkey")),
        sa.PrimaryKeyConstraint("image_id", "scorer_id", name=op.f("scores_pkey")),
    )


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
