"""Counts of items, kept by triggers

Statement-level, so that a batch of any size costs one insert. They only append: see `dpiqa.storage.counts`.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

FUNCTION = """
CREATE FUNCTION items_count_{event}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO count_changes (job_id, stage, state, reason, n)
    SELECT job_id, stage, state, coalesce(reason, ''), sum(n)
    FROM ({rows}) AS changed GROUP BY 1, 2, 3, 4 HAVING sum(n) <> 0;
    RETURN NULL;
END $$
"""
ADDED = "SELECT job_id, stage, state, reason, 1 AS n FROM new_items"
REMOVED = "SELECT job_id, stage, state, reason, -1 AS n FROM old_items"
EVENTS = {
    "insert": (ADDED, "NEW TABLE AS new_items"),
    "update": (f"{ADDED} UNION ALL {REMOVED}", "NEW TABLE AS new_items OLD TABLE AS old_items"),
    "delete": (REMOVED, "OLD TABLE AS old_items"),
}


def upgrade() -> None:
    for event, (rows, tables) in EVENTS.items():
        op.execute(FUNCTION.format(event=event, rows=rows))
        op.execute(
            f"CREATE TRIGGER items_count_{event} AFTER {event} ON items "
            f"REFERENCING {tables} FOR EACH STATEMENT EXECUTE FUNCTION items_count_{event}()"
        )
    op.execute(
        "INSERT INTO job_counts (job_id, stage, state, reason, n) "
        "SELECT job_id, stage, state, coalesce(reason, ''), count(*) FROM items GROUP BY 1, 2, 3, 4"
    )


def downgrade() -> None:
    for event in EVENTS:
        op.execute(f"DROP TRIGGER items_count_{event} ON items")
        op.execute(f"DROP FUNCTION items_count_{event}()")
    op.execute("DELETE FROM job_counts")
    op.execute("DELETE FROM count_changes")
