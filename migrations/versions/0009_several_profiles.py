"""Columns for items of several profiles per job, and for scores reused for the same bytes

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

FUNCTION = """
CREATE OR REPLACE FUNCTION items_count_{event}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO count_changes (job_id, stage, state, reason{columns})
    SELECT job_id, stage, state, coalesce(reason, ''){sums}
    FROM ({rows}) AS changed GROUP BY {group} HAVING {condition};
    RETURN NULL;
END $$
"""
PLAIN = {"columns": ", n", "sums": ", sum(n)", "group": "1, 2, 3, 4", "condition": "sum(n) <> 0"}
BY_PROFILE = {
    "columns": ", profile, n, reused",
    "sums": ", profile, sum(n), coalesce(sum(n) FILTER (WHERE reused), 0)",
    "group": "1, 2, 3, 4, profile",
    "condition": "sum(n) <> 0 OR sum(n) FILTER (WHERE reused) <> 0",
}


def replace_functions(values: dict[str, str], more: str) -> None:
    # The names are constants of this file.
    added = f"SELECT job_id, stage, state, reason{more}, 1 AS n FROM new_items"  # noqa: S608
    removed = f"SELECT job_id, stage, state, reason{more}, -1 AS n FROM old_items"  # noqa: S608
    for event, rows in (("insert", added), ("update", f"{added} UNION ALL {removed}"), ("delete", removed)):
        op.execute(FUNCTION.format(event=event, rows=rows, **values))


def profile(comment: str) -> sa.Column:
    return sa.Column("profile", sa.Text(), server_default=sa.text("''"), nullable=False, comment=comment)


def number(name: str, comment: str) -> sa.Column:
    return sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment=comment)


def upgrade() -> None:
    op.add_column(
        "jobs",
        sa.Column(
            "further_profiles",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="ids of the other profiles that score its images",
        ),
    )
    op.create_table(
        "job_profiles",
        sa.Column("job_id", sa.Uuid(), nullable=False, comment="a job of several profiles"),
        sa.Column("profile", sa.Text(), nullable=False, comment="one of jobs.further_profiles"),
        number("scored_by_student", "as in jobs, under this profile"),
        number("escalated", "as in jobs, under this profile"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("job_profiles_job_id_fkey")),
        sa.ForeignKeyConstraint(["profile"], ["profiles.id"], name=op.f("job_profiles_profile_fkey")),
        sa.PrimaryKeyConstraint("job_id", "profile", name=op.f("job_profiles_pkey")),
        comment="how many images each further profile of a job has scored and escalated, written by record",
    )
    op.add_column(
        "items", profile("id of the profile that scores it, one of jobs.further_profiles; empty: jobs.profile")
    )
    op.add_column(
        "items",
        sa.Column(
            "reused",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="whether its scores so far were known before, so that nothing was computed for it",
        ),
    )
    op.create_table_comment("items", "one image in one job, to be scored under one profile")
    op.add_column(
        "scores",
        sa.Column(
            "content_hash",
            sa.LargeBinary(),
            nullable=True,
            comment="SHA-256 of the bytes that were read; NULL: not computed",
        ),
    )
    op.add_column(
        "scores",
        sa.Column(
            "copied_from",
            sa.BigInteger(),
            nullable=True,
            comment="image of the same bytes whose score this is; NULL: it was computed",
        ),
    )
    for table, reused in (
        ("job_counts", "of those, the items whose scores were known before"),
        ("count_changes", "change of the number of them whose scores were known before"),
    ):
        op.add_column(table, profile("as in items"))
        op.add_column(table, number("reused", reused))
    replace_functions(BY_PROFILE, ", profile, reused")


def downgrade() -> None:
    op.execute("DELETE FROM items WHERE profile <> ''")
    replace_functions(PLAIN, "")
    op.execute("DELETE FROM count_changes")
    op.execute("DELETE FROM job_counts")
    for table in ("count_changes", "job_counts", "items"):
        op.drop_column(table, "profile")
        op.drop_column(table, "reused")
    op.execute(
        "INSERT INTO job_counts (job_id, stage, state, reason, n) "
        "SELECT job_id, stage, state, coalesce(reason, ''), count(*) FROM items GROUP BY 1, 2, 3, 4"
    )
    op.create_table_comment("items", "one image in one job")
    op.drop_column("scores", "copied_from")
    op.drop_column("scores", "content_hash")
    op.drop_table("job_profiles")
    op.drop_column("jobs", "further_profiles")
