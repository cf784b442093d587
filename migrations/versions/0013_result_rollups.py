"""Roll-ups of results: counts by bins of the score, kept by triggers

Statement-level, so that a batch of any size costs one insert. They only append: see `dpiqa.storage.rollups`. Results of
before are counted by the sweeper, in batches; until it has passed an image, the triggers leave that image to it.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

COMPLETE = 9_223_372_036_854_775_807
# The lock makes a batch of the sweeper wait for the transactions that left an image to it, and these for the batch.
FUNCTION = """
CREATE FUNCTION results_count_{event}() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE upto bigint;
BEGIN
    SELECT counted_upto INTO upto FROM result_rollup;
    IF upto < {complete} THEN
        PERFORM pg_advisory_xact_lock_shared(7301010, 0);
        SELECT counted_upto INTO upto FROM result_rollup;
    END IF;
    INSERT INTO result_changes (profile, bucket, folder, scorer_id, route, status, day, job_id, bin, n)
    SELECT profile, bucket, substring(key from '^(?:[^/]*/){{1,3}}'), scorer_id, route, status,
        CAST(updated_at AT TIME ZONE 'UTC' AS date), job_id,
        CAST(least(greatest(floor(score * 1000), -1000), 2000) AS smallint), sum(n)
    FROM ({rows}) AS changed WHERE current AND image_id <= upto
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 HAVING sum(n) <> 0;
    RETURN NULL;
END $$
"""
_COLUMNS = "image_id, profile, bucket, key, scorer_id, route, status, updated_at, job_id, score, current"
ADDED = f"SELECT {_COLUMNS}, 1 AS n FROM new_results"  # noqa: S608 - constants
REMOVED = f"SELECT {_COLUMNS}, -1 AS n FROM old_results"  # noqa: S608 - constants
EVENTS = {
    "insert": (ADDED, "NEW TABLE AS new_results"),
    "update": (f"{ADDED} UNION ALL {REMOVED}", "NEW TABLE AS new_results OLD TABLE AS old_results"),
    "delete": (REMOVED, "OLD TABLE AS old_results"),
}
TABLES = ("result_changes", "result_counts", "result_groups", "result_depths", "result_rollup")


def upgrade() -> None:
    op.create_table(
        "result_changes",
        _text("profile", "as in results"),
        _text("bucket", "as in results"),
        sa.Column("folder", sa.Text(), nullable=True, comment="first folders of the key, at most 3; NULL: none"),
        _text("scorer_id", "as in results"),
        _text("route", "as in results"),
        _text("status", "as in results"),
        sa.Column("day", sa.Date(), nullable=False, comment="day of results.updated_at, UTC"),
        sa.Column("job_id", sa.Uuid(), nullable=False, comment="as in results"),
        sa.Column("bin", sa.SmallInteger(), nullable=False, comment="bin of the score: thousandths of the scale"),
        _count("n", "current results that now have these values, less those that no longer do"),
        comment="changes of results, written by triggers, folded into result_counts by the sweeper",
    )
    op.create_table(
        "result_groups",
        sa.Column("id", sa.BigInteger(), nullable=False, comment="hash of the other columns"),
        _text("profile", "as in results"),
        _text("bucket", "as in results; empty: days of all buckets together"),
        _text("kind", "what the group is: bucket, folder, day, job"),
        _text("name", "folder with its last slash, day (UTC), or job; empty for a bucket"),
        sa.Column("depth", sa.SmallInteger(), nullable=False, comment="number of folders in the name"),
        _text("scorer_id", "as in results"),
        _text("route", "as in results, for a bucket; else empty"),
        _text("status", "as in results, for a bucket; else empty"),
        sa.PrimaryKeyConstraint("id", name=op.f("result_groups_pkey")),
        comment="groups of current results that are counted, written by the sweeper",
    )
    op.create_index("result_groups_by_name", "result_groups", ["profile", "kind", "bucket", "name"])
    op.create_table(
        "result_counts",
        sa.Column("group_id", sa.BigInteger(), nullable=False, comment="the group"),
        sa.Column("bin", sa.SmallInteger(), nullable=False, comment="bin of the score: thousandths of the scale"),
        _count("n", "results of the group in this bin"),
        sa.PrimaryKeyConstraint("group_id", "bin", name=op.f("result_counts_pkey")),
        comment="results by group and bin up to the last sweep; result_changes has what came since",
    )
    op.create_table(
        "result_depths",
        _text("profile", "as in results"),
        _text("bucket", "as in results"),
        sa.Column("depth", sa.SmallInteger(), nullable=False, comment="folders of this depth at most are counted"),
        sa.PrimaryKeyConstraint("profile", "bucket", name=op.f("result_depths_pkey")),
        comment="buckets with too many folders to count each, written by the sweeper",
    )
    op.create_table(
        "result_rollup",
        _count("counted_upto", "images up to this id are counted; the largest number: all"),
        comment="state of the roll-ups of results: one row",
    )
    for event, (rows, tables) in EVENTS.items():
        op.execute(FUNCTION.format(event=event, rows=rows, complete=COMPLETE))
        op.execute(
            f"CREATE TRIGGER results_count_{event} AFTER {event} ON results "
            f"REFERENCING {tables} FOR EACH STATEMENT EXECUTE FUNCTION results_count_{event}()"
        )
    # After the triggers, whose lock keeps writers out until the commit.
    start = f"CASE WHEN EXISTS (SELECT FROM results) THEN 0 ELSE {COMPLETE} END"
    op.execute(f"INSERT INTO result_rollup SELECT {start}")


def downgrade() -> None:
    for event in EVENTS:
        op.execute(f"DROP TRIGGER results_count_{event} ON results")
        op.execute(f"DROP FUNCTION results_count_{event}()")
    for table in TABLES:
        op.drop_table(table)


def _text(name: str, comment: str) -> sa.Column:
    return sa.Column(name, sa.Text(), nullable=False, comment=comment)


def _count(name: str, comment: str) -> sa.Column:
    return sa.Column(name, sa.BigInteger(), nullable=False, comment=comment)
