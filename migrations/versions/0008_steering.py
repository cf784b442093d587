"""Steering of jobs: paused and cancelled jobs, their priority and working time, and the work of the sweeper

Every statement may run twice: a migration that is interrupted between its transactions begins again. The CHECK on
`items` is validated, and indexes of `items` are built, while the table is written.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

OLD_REJECTED = (
    "'access_denied', 'archived', 'corrupt', 'decode_crash', 'decode_timeout', 'device_memory', 'empty', "
    "'non_finite_score', 'not_an_image', {more}'too_many_bytes', 'too_many_pixels', 'truncated', 'unsupported_format'"
)
OLD_REASONS = (
    "state IN ('queued', 'leased', 'scored') AND reason IS NULL{more}"
    " OR state = 'dead' AND reason IN ('repeated_errors', 'worker_crashes')"
    " OR state = 'deleted' AND reason IN ('object_deleted')"
    " OR state = 'rejected' AND reason IN ({rejected})"
    " OR state = 'superseded' AND reason IN ('newer_version')"
)
#: Table, name and condition of each CHECK that changes.
NEW_CHECKS = (
    (
        "jobs",
        "state",
        "state IN ('listing', 'running', 'watching', 'paused', 'complete', 'failed', 'cancelled')",
    ),
    (
        "jobs",
        "watch",
        "(kind = 'watch') = (state = 'watching') OR state IN ('paused', 'complete', 'failed', 'cancelled')",
    ),
    (
        "items",
        "reason",
        OLD_REASONS.format(
            more=" OR state = 'cancelled' AND reason IN ('job_cancelled')",
            rejected=OLD_REJECTED.format(more="'not_found', "),
        ),
    ),
)
OLD_CHECKS = (
    ("jobs", "state", "state IN ('listing', 'running', 'watching', 'complete', 'failed')"),
    ("jobs", "watch", "(kind = 'watch') = (state = 'watching') OR state IN ('complete', 'failed')"),
    ("items", "reason", OLD_REASONS.format(more="", rejected=OLD_REJECTED.format(more=""))),
)
NEW_INDEXES = (
    (
        "jobs_one_watch",
        "UNIQUE",
        "jobs (bucket, prefix, profile) WHERE kind = 'watch' AND state IN ('watching', 'paused')",
    ),
    (
        "items_unscored",
        "",
        "items (job_id, state, image_id) WHERE state IN ('rejected', 'superseded', 'deleted', 'dead', 'cancelled')",
    ),
)
OLD_INDEXES = (
    ("jobs_one_watch", "UNIQUE", "jobs (bucket, prefix, profile) WHERE state = 'watching'"),
    (
        "items_unscored",
        "",
        "items (job_id, state, image_id) WHERE state IN ('rejected', 'superseded', 'deleted', 'dead')",
    ),
)
COMMENTS = {
    "priority": "each step doubles its share of a window; -10 to 10",
    "active_since": "when it was started, resumed or reopened last; NULL before, and while it is paused",
    "active_seconds": "seconds of work before active_since",
    "deleted_at": "when a user deleted it; its row stays, because results and scores refer to it",
}


def upgrade() -> None:
    op.execute(
        "ALTER TABLE jobs ADD COLUMN IF NOT EXISTS priority smallint NOT NULL DEFAULT 0,"
        " ADD COLUMN IF NOT EXISTS active_since timestamptz,"
        " ADD COLUMN IF NOT EXISTS active_seconds double precision NOT NULL DEFAULT 0,"
        " ADD COLUMN IF NOT EXISTS deleted_at timestamptz"
    )
    for column, comment in COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN jobs.{column} IS '{comment}'")
    op.create_table(
        "sweeps",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="order of the requests"),
        sa.Column("job_id", sa.Uuid(), nullable=False, comment="the job"),
        sa.Column("action", sa.Text(), nullable=False, comment="what happens to its items"),
        sa.Column("state", sa.Text(), comment="retry: items in this state; NULL for other actions"),
        sa.Column(
            "reasons", postgresql.ARRAY(sa.Text()), comment="retry: items with one of these reasons; NULL for any"
        ),
        sa.Column(
            "after",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="retry: image id of the last item that was reopened",
        ),
        sa.Column(
            "requested_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
            comment="when the user asked for it",
        ),
        sa.CheckConstraint("action IN ('cancel', 'retry', 'prune')", name=op.f("sweeps_action_check")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("sweeps_job_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("sweeps_pkey")),
        comment="changes of many items of one job that the sweeper makes in batches; a row ends with its last batch",
        if_not_exists=True,
    )
    op.create_index("sweeps_job", "sweeps", ["job_id"], unique=False, if_not_exists=True)
    _replace_checks((*NEW_CHECKS, ("jobs", "priority", "priority >= -10 AND priority <= 10")))
    _replace_indexes(NEW_INDEXES)


def downgrade() -> None:
    """Return to the states before: a paused job goes on, and what was cancelled counts as failed or given up."""
    op.execute("DROP TABLE IF EXISTS sweeps")
    op.execute(
        "UPDATE jobs SET state = CASE WHEN state = 'cancelled' THEN 'failed' WHEN kind = 'watch' THEN 'watching'"
        " WHEN listed_at IS NULL THEN 'listing' ELSE 'running' END,"
        " error = CASE WHEN state = 'cancelled' THEN 'cancelled' ELSE error END"
        " WHERE state IN ('paused', 'cancelled')"
    )
    op.execute(
        "UPDATE items SET state = 'dead', reason = 'repeated_errors', detail = 'its job was cancelled'"
        " WHERE state = 'cancelled'"
    )
    op.execute(
        "UPDATE items SET state = 'deleted', reason = 'object_deleted'"
        " WHERE state = 'rejected' AND reason = 'not_found'"
    )
    _replace_indexes(OLD_INDEXES)
    _replace_checks(OLD_CHECKS)
    for column in COMMENTS:  # the CHECK of the priority goes with its column
        op.execute(f"ALTER TABLE jobs DROP COLUMN IF EXISTS {column}")


def _replace_checks(checks: tuple[tuple[str, str, str], ...]) -> None:
    """Exchange CHECKs: added NOT VALID under a short lock, validated while the table is read and written."""
    with op.get_context().autocommit_block():
        for table, name, condition in checks:
            constraint = f"{table}_{name}_check"
            op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {constraint}")
            op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {constraint} CHECK ({condition}) NOT VALID")
        op.execute("SET statement_timeout = 0")
        for table, name, _ in checks:
            op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {table}_{name}_check")
        op.execute("SET statement_timeout = '30min'")


def _replace_indexes(indexes: tuple[tuple[str, str, str], ...]) -> None:
    """Exchange indexes: the new one is complete before the old one goes.

    CONCURRENTLY waits for older transactions without stopping anybody: it may take as long as it needs.
    """
    with op.get_context().autocommit_block():
        op.execute("SET statement_timeout = 0")
        op.execute("SET lock_timeout = 0")
        for name, unique, definition in indexes:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}_new")
            op.execute(f"CREATE {unique} INDEX CONCURRENTLY {name}_new ON {definition}")
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"ALTER INDEX {name}_new RENAME TO {name}")
        op.execute("SET statement_timeout = '30min'")
        op.execute("SET lock_timeout = '2s'")
