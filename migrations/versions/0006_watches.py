"""Watches that are checked, and reconciliations

`images_current_by_key` takes the place of `images_one_current`: the same rule and the same size, but in the order of
bytes, in which S3 lists keys. Equality uses it as before.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

NOW = sa.text("clock_timestamp()")
TIME = sa.DateTime(timezone=True)
OPEN = "state IN ('loading', 'comparing', 'marking')"


def upgrade() -> None:
    swap_index("images_current_by_key", "images_one_current", {"key": "text_pattern_ops"})
    op.create_table(
        "staged_objects",
        sa.Column("reconciliation_id", sa.Uuid(), nullable=False, comment="the reconciliation; its row may be gone"),
        sa.Column("key", sa.Text(collation="C"), nullable=False, comment="object key"),
        sa.Column("etag", sa.Text(), nullable=False, comment="without quotes"),
        sa.Column("size", sa.BigInteger(), nullable=True, comment="bytes"),
        sa.Column("last_modified", TIME, nullable=True, comment="by the store's clock"),
        sa.PrimaryKeyConstraint("reconciliation_id", "key", name=op.f("staged_objects_pkey")),
        comment="rows of an inventory while it is compared; unlogged: empty after a crash of the server",
        prefixes=["UNLOGGED"],
    )
    op.create_table(
        "probes",
        sa.Column("id", sa.Uuid(), nullable=False, comment="random; part of the object key"),
        sa.Column("job_id", sa.Uuid(), nullable=False, comment="the watch that is tested"),
        sa.Column("bucket", sa.Text(), nullable=False, comment="bucket of the probe object"),
        sa.Column("key", sa.Text(), nullable=False, comment="key of the probe object, which is deleted right after"),
        sa.Column("sent_at", TIME, server_default=NOW, nullable=False, comment="when it was about to be put"),
        sa.Column(
            "created_seen_at",
            TIME,
            nullable=True,
            comment="when the event of its creation was recorded; NULL: not yet",
        ),
        sa.Column(
            "removed_seen_at",
            TIME,
            nullable=True,
            comment="when the event of its removal was recorded; NULL: not yet",
        ),
        sa.Column("seen_via", sa.Text(), nullable=True, comment="the way in which the last of the two came"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("probes_job_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("probes_pkey")),
        comment="test events of watches; an object with such a key is never an image",
    )
    op.create_index("probes_of_job", "probes", ["job_id", "sent_at"], unique=False)
    op.create_table(
        "reconciliations",
        sa.Column("id", sa.Uuid(), nullable=False, comment="random, made with the request"),
        sa.Column("bucket", sa.Text(), nullable=False, comment="the bucket that is compared"),
        sa.Column("prefix", sa.Text(), nullable=False, comment="keys begin with it; empty for the whole bucket"),
        sa.Column("profile", sa.Text(), nullable=False, comment="profile whose results count"),
        sa.Column(
            "inventory",
            sa.Text(),
            nullable=True,
            comment="s3:// address of the inventory's manifest; NULL: the bucket is listed",
        ),
        sa.Column("dry_run", sa.Boolean(), nullable=False, comment="whether it only reports"),
        sa.Column(
            "max_deleted",
            sa.Integer(),
            nullable=False,
            comment="percent of the ledger's objects that it may mark deleted",
        ),
        sa.Column("watch_id", sa.Uuid(), nullable=True, comment="the watch whose schedule asked for it"),
        sa.Column("state", sa.Text(), nullable=False, comment="written by the process that works on it"),
        sa.Column(
            "cursor",
            sa.Text(),
            nullable=True,
            comment="last key that was compared, or marked; NULL at the start of each of the two",
        ),
        sa.Column(
            "as_of",
            TIME,
            nullable=True,
            comment="time by the database's clock that the listing shows, or that of the inventory",
        ),
        sa.Column(
            "loaded",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="rows of the inventory that were loaded",
        ),
        sa.Column(
            "counts",
            postgresql.JSONB(),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="objects by kind: listed, unchanged, waiting, missing, changed, deleted, failed, skipped, ledger",
        ),
        sa.Column(
            "examples",
            postgresql.JSONB(),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="by kind of difference, up to ten keys",
        ),
        sa.Column("job_id", sa.Uuid(), nullable=True, comment="the job that its missing and changed objects went to"),
        sa.Column("error", sa.Text(), nullable=True, comment="why it failed, in one line"),
        sa.Column(
            "lease_until",
            TIME,
            nullable=True,
            comment="end of the lease of the process that works on it; NULL: none does",
        ),
        sa.Column(
            "attempt",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="fence of that process: each start adds 1",
        ),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="when it was asked for"),
        sa.Column("started_at", TIME, nullable=True, comment="when a process first took it"),
        sa.Column("finished_at", TIME, nullable=True, comment="when it completed or failed"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("reconciliations_job_id_fkey")),
        sa.ForeignKeyConstraint(["profile"], ["profiles.id"], name=op.f("reconciliations_profile_fkey")),
        sa.ForeignKeyConstraint(["watch_id"], ["jobs.id"], name=op.f("reconciliations_watch_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("reconciliations_pkey")),
        sa.CheckConstraint(
            "state IN ('loading', 'comparing', 'marking', 'complete', 'failed')",
            name=op.f("reconciliations_state_check"),
        ),
        comment="comparisons of a bucket with the ledger, and their reports",
    )
    op.create_index("reconciliations_newest", "reconciliations", ["created_at", "id"], unique=False)
    op.create_index(
        "reconciliations_one_open", "reconciliations", ["bucket", "prefix"], unique=True, postgresql_where=sa.text(OPEN)
    )
    op.create_table(
        "watches",
        sa.Column("job_id", sa.Uuid(), nullable=False, comment="the job of kind watch"),
        sa.Column("backfill_job_id", sa.Uuid(), nullable=True, comment="the job that lists what was there before"),
        sa.Column(
            "events",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="objects that events announced, created and removed",
        ),
        sa.Column("last_event_at", TIME, nullable=True, comment="when the last of them was recorded; NULL: none yet"),
        sa.Column("last_event_via", sa.Text(), nullable=True, comment="the way in which it came"),
        sa.Column(
            "reconcile_seconds",
            sa.Integer(),
            nullable=True,
            comment="seconds between scheduled reconciliations; NULL: no schedule",
        ),
        sa.Column(
            "reconcile_due_at",
            TIME,
            nullable=True,
            comment="when the next one is due; set if and only if there is a schedule",
        ),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="when the row was written"),
        sa.ForeignKeyConstraint(["backfill_job_id"], ["jobs.id"], name=op.f("watches_backfill_job_id_fkey")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("watches_job_id_fkey")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("watches_pkey")),
        comment="what is known of a watch beside its job; written by ingest and by `dpiqa watches`",
    )
    op.create_table(
        "reconciliation_differences",
        sa.Column("reconciliation_id", sa.Uuid(), nullable=False, comment="the reconciliation"),
        sa.Column("kind", sa.Text(), nullable=False, comment="the kind of difference"),
        sa.Column("key", sa.Text(collation="C"), nullable=False, comment="object key"),
        sa.Column(
            "image_id", sa.BigInteger(), nullable=True, comment="the ledger's image; NULL for one that is missing"
        ),
        sa.Column(
            "observed_at",
            TIME,
            nullable=True,
            comment="images.news_at when it was compared: a later event keeps it from being marked",
        ),
        sa.ForeignKeyConstraint(
            ["reconciliation_id"],
            ["reconciliations.id"],
            name=op.f("reconciliation_differences_reconciliation_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("reconciliation_id", "kind", "key", name=op.f("reconciliation_differences_pkey")),
        comment="the differences that reconciliations found; kept until the next one of the same bucket and prefix",
    )


def downgrade() -> None:
    swap_index("images_one_current", "images_current_by_key", {})
    for table in ("reconciliation_differences", "watches", "reconciliations", "probes", "staged_objects"):
        op.drop_table(table)


def swap_index(new: str, old: str, ops: dict[str, str]) -> None:
    """Build one index beside the other, without a lock that stops writers, then drop the other.

    Comes first: what follows is one transaction with the revision, so that a killed migration can run again.
    """
    with op.get_context().autocommit_block():
        op.execute("SET statement_timeout = 0")  # minutes for tens of millions of images
        op.execute("SET lock_timeout = 0")  # it waits for the transactions that run, which wait for nothing here
        is_valid = sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
        if not op.get_bind().execute(is_valid, {"name": new}).scalar():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {new}")
            op.create_index(
                new,
                "images",
                ["bucket", "key"],
                unique=True,
                postgresql_where=sa.text("current"),
                postgresql_ops=ops,
                postgresql_concurrently=True,
            )
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {old}")
        op.execute("SET lock_timeout = '2s'")
        op.execute("SET statement_timeout = '30min'")
