"""Roll-ups of jobs count the images that other jobs scored, too; ended items are found by their image

A result names the job that recorded it. A job whose images were scored before shares their results: triggers count
these for it, as migration 0013 does for the job that recorded them. Results that were shared before count for their job
once `dpiqa db rollups --rebuild` has run.

Revision ID: 0020
Revises: 0019
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

COMPLETE = 9_223_372_036_854_775_807
_BIN = "CAST(least(greatest(floor(r.score * 1000), -1000), 2000) AS smallint)"
# Each row is a probe of an index, whatever the statistics said when the plan was made: a plan is kept for a session.
FUNCTION = """
CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
DECLARE upto bigint;
BEGIN
    IF NOT EXISTS ({first}) THEN
        RETURN NULL;
    END IF;
    SELECT counted_upto INTO upto FROM result_rollup;
    IF upto < {complete} THEN
        PERFORM pg_advisory_xact_lock_shared(7301010, 0);
        SELECT counted_upto INTO upto FROM result_rollup;
    END IF;
    INSERT INTO shared_result_changes (profile, bucket, scorer_id, job_id, bin, n)
    SELECT r.profile, r.bucket, r.scorer_id, i.job_id, {bin}, sum(n) FROM {rows}
    WHERE r.current AND r.image_id <= upto AND r.job_id <> i.job_id
    GROUP BY 1, 2, 3, 4, 5 HAVING sum(n) <> 0;
    RETURN NULL;
END $$
"""
_ADDED = "SELECT job_id, image_id, profile, 1 AS n FROM new_items WHERE state = 'scored'"
_REMOVED = "SELECT job_id, image_id, profile, -1 AS n FROM old_items WHERE state = 'scored'"
_OF_ITEMS = """({items}) AS i JOIN jobs j ON j.id = i.job_id JOIN LATERAL (
        SELECT * FROM results WHERE image_id = i.image_id AND profile = coalesce(nullif(i.profile, ''), j.profile)
        OFFSET 0) AS r ON true"""
# Results whose status alone changes cancel out. A new result has no scored item yet.
_OF_RESULTS = """({results}) AS r JOIN LATERAL (
        SELECT items.job_id FROM items JOIN jobs j ON j.id = items.job_id
        WHERE items.image_id = r.image_id AND items.finished_at IS NOT NULL AND items.state = 'scored'
        AND coalesce(nullif(items.profile, ''), j.profile) = r.profile OFFSET 0) AS i ON true"""
_UPDATED = "SELECT *, 1 AS n FROM new_results UNION ALL SELECT *, -1 FROM old_results"
_DELETED = "SELECT *, -1 AS n FROM old_results"
_NEW, _OLD = "NEW TABLE AS new_{0}", "OLD TABLE AS old_{0}"
#: Name: table, event, transition tables, a condition without which there is nothing to do, and the rows.
TRIGGERS = {
    "items_share_insert": (
        "items", "INSERT", _NEW, "SELECT FROM new_items WHERE state = 'scored'", _OF_ITEMS.format(items=_ADDED),
    ),
    "items_share_update": (
        "items", "UPDATE", f"{_NEW} {_OLD}",
        "SELECT FROM new_items WHERE state = 'scored' UNION ALL SELECT FROM old_items WHERE state = 'scored'",
        _OF_ITEMS.format(items=f"{_ADDED} UNION ALL {_REMOVED}"),
    ),
    "results_share_update": (
        "results", "UPDATE", f"{_NEW} {_OLD}", "SELECT FROM new_results", _OF_RESULTS.format(results=_UPDATED),
    ),
    "results_share_delete": (
        "results", "DELETE", _OLD, "SELECT FROM old_results", _OF_RESULTS.format(results=_DELETED),
    ),
}  # fmt: skip


def upgrade() -> None:
    # Each statement is a transaction: workers write results and items in both orders, and a lock of both tables would
    # end in a deadlock with them. What was interrupted is made again.
    with op.get_context().autocommit_block():
        op.execute("SET statement_timeout = '6h'")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS items_ended_image")
        op.execute("CREATE INDEX CONCURRENTLY items_ended_image ON items (image_id) WHERE finished_at IS NOT NULL")
        op.execute("SET statement_timeout = '30min'")
        op.create_table(
            "shared_result_changes",
            _text("profile", "as in results"),
            _text("bucket", "as in results"),
            _text("scorer_id", "as in results"),
            sa.Column(
                "job_id", sa.Uuid(), nullable=False, comment="a job of which the image is one that it has scored"
            ),
            sa.Column("bin", sa.SmallInteger(), nullable=False, comment="bin of the score: thousandths of the scale"),
            sa.Column("n", sa.BigInteger(), nullable=False, comment="such results, less those that no longer are"),
            comment="changes of results that another job recorded, written by triggers, folded in by the sweeper",
            if_not_exists=True,
        )
        for name, (table, event, tables, first, rows) in TRIGGERS.items():
            op.execute(FUNCTION.format(name=name, first=first, rows=rows, bin=_BIN, complete=COMPLETE))
            op.execute(
                f"CREATE OR REPLACE TRIGGER {name} AFTER {event} ON {table} "
                f"REFERENCING {tables.format(table)} FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
            )
        op.execute("ALTER TABLE result_rollup ADD COLUMN IF NOT EXISTS shared_from timestamptz")
        comment = "jobs created since count results that other jobs recorded; NULL: all jobs do"
        op.execute(f"COMMENT ON COLUMN result_rollup.shared_from IS '{comment}'")
        op.execute("UPDATE result_rollup SET shared_from = clock_timestamp() WHERE EXISTS (SELECT FROM results)")


def downgrade() -> None:
    for name, (table, *_) in TRIGGERS.items():
        op.execute(f"DROP TRIGGER {name} ON {table}")
        op.execute(f"DROP FUNCTION {name}()")
    op.drop_column("result_rollup", "shared_from")
    op.drop_table("shared_result_changes")
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS items_ended_image")


def _text(name: str, comment: str) -> sa.Column:
    return sa.Column(name, sa.Text(), nullable=False, comment=comment)
