"""Reports of jobs, checks that pause a job whose first items fail, and views for people who read with SQL

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

NOW = sa.text("clock_timestamp()")
TIME = sa.DateTime(timezone=True)

SCORES = """
SELECT r.bucket, r.key, r.etag, r.score, s.card ->> 'score_scale' AS scale, r.scorer_id AS model, r.stage, r.status,
    r.route, r.student_score, r.teacher_score, r.profile, r.current, r.job_id, r.updated_at
FROM results r JOIN scorers s ON s.id = r.scorer_id
"""
FAILURES = """
SELECT i.job_id, m.bucket, m.key, m.etag, m.size, coalesce(nullif(i.profile, ''), j.profile) AS profile, i.state,
    i.reason, i.detail, i.stage, i.attempt, i.crashes, i.errors, i.created_at, i.finished_at
FROM items i JOIN images m ON m.id = i.image_id JOIN jobs j ON j.id = i.job_id
WHERE i.state IN ('rejected', 'superseded', 'deleted', 'dead', 'cancelled') AND j.deleted_at IS NULL
"""
JOBS = """
SELECT j.id AS job_id, j.kind, j.bucket, j.prefix, j.profile, j.state, j.created_at, j.listed_at, j.finished_at,
    j.error, j.pause_reason, j.escalated, n.n_items, n.n_open, n.n_scored,
    n.n_items - n.n_open - n.n_scored AS n_unscored
FROM jobs j CROSS JOIN LATERAL (
    SELECT coalesce(sum(c.n), 0)::bigint AS n_items,
        coalesce(sum(c.n) FILTER (WHERE c.state IN ('queued', 'leased')), 0)::bigint AS n_open,
        coalesce(sum(c.n) FILTER (WHERE c.state = 'scored'), 0)::bigint AS n_scored
    FROM (SELECT state, n FROM job_counts WHERE job_id = j.id
        UNION ALL SELECT state, n FROM count_changes WHERE job_id = j.id) AS c) AS n
WHERE j.deleted_at IS NULL
"""
#: View -> its query, its comment, and the comments of its columns.
VIEWS = {
    "dpiqa_scores": (
        SCORES,
        "the scores that count: one row for each image under a profile; stable",
        {
            "bucket": "bucket of the object",
            "key": "object key, decoded",
            "etag": "ETag of the bytes that were scored",
            "score": "the score that counts, on scale",
            "scale": "the meaning of the score: its range, and which end is better",
            "model": "scorer of the score",
            "stage": "the model that returned the score: student or teacher",
            "status": "provisional while the teacher is awaited, then final",
            "route": "why the image was, or was not, sent to the teacher",
            "student_score": "score of the student, if it scored",
            "teacher_score": "score of the teacher, if it scored",
            "profile": "profile with its version",
            "current": "whether the store, as far as is known, still holds these bytes",
            "job_id": "job that made the result",
            "updated_at": "when the score or its status last changed",
        },
    ),
    "dpiqa_failures": (
        FAILURES,
        "the images of jobs that ended unscored, each with the reason; stable",
        {
            "job_id": "the job",
            "bucket": "bucket of the object",
            "key": "object key, decoded",
            "etag": "ETag, empty where none was read",
            "size": "size in bytes, where it is known",
            "profile": "profile that the image was to be scored by",
            "state": "rejected, superseded, deleted, dead or cancelled",
            "reason": "why it ended unscored",
            "detail": "the last error in words",
            "stage": "the model that it waited for",
            "attempt": "how often it was claimed or reopened",
            "crashes": "workers that died while they held it",
            "errors": "failures that are not the fault of the image",
            "created_at": "when it was added to the job",
            "finished_at": "when it ended",
        },
    ),
    "dpiqa_jobs": (
        JOBS,
        "jobs with their counts; stable",
        {
            "job_id": "the job",
            "kind": "where its items come from",
            "bucket": "bucket of its images",
            "prefix": "keys begin with it",
            "profile": "profile of its scores, the first if there are several",
            "state": "listing, running, watching, paused, complete, failed or cancelled",
            "created_at": "when it was submitted",
            "listed_at": "when all its items were known",
            "finished_at": "when it ended",
            "error": "why it failed",
            "pause_reason": "why it was paused by itself",
            "escalated": "images that were sent to the teacher",
            "n_items": "items known so far",
            "n_open": "items that have not ended",
            "n_scored": "items that were scored",
            "n_unscored": "items that ended unscored",
        },
    ),
}


def upgrade() -> None:
    comment = "why it was paused by itself; NULL: it was not, or it was resumed"
    op.add_column("jobs", sa.Column("pause_reason", sa.Text(), nullable=True, comment=comment))
    op.create_table(
        "reports",
        sa.Column(
            "id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="named by doorbell messages"
        ),
        sa.Column("job_id", sa.Uuid(), nullable=False, comment="the job"),
        sa.Column(
            "output", sa.Text(), nullable=False, comment="s3:// address of the object; its name ends in the format"
        ),
        sa.Column(
            "failures", sa.Boolean(), nullable=False, comment="whether it holds only the items that ended unscored"
        ),
        sa.Column("state", sa.Text(), nullable=False, comment="written by the worker that writes the report"),
        sa.Column("n_rows", sa.BigInteger(), nullable=True, comment="rows of the object; set when it is written"),
        sa.Column("error", sa.Text(), nullable=True, comment="why it cannot be written, in one line"),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="when it was requested"),
        sa.Column("finished_at", TIME, nullable=True, comment="when it was written or given up; NULL before"),
        sa.Column(
            "lease_until", TIME, nullable=True, comment="end of the lease of the worker that writes it; NULL: none does"
        ),
        sa.Column(
            "attempt",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="fence of the worker that writes it: each start adds 1",
        ),
        sa.CheckConstraint("state IN ('pending', 'written', 'failed')", name=op.f("reports_state_check")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("reports_job_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("reports_pkey")),
        sa.UniqueConstraint("job_id", name=op.f("reports_job_id_key")),
        comment="reports that are written when their job ends",
    )
    op.create_index(
        "reports_pending", "reports", ["created_at"], unique=False, postgresql_where=sa.text("state = 'pending'")
    )
    op.create_table(
        "failure_checks",
        sa.Column("job_id", sa.Uuid(), nullable=False, comment="a job that has not been checked yet"),
        sa.Column(
            "share", sa.Double(), nullable=False, comment="share of failures, 0 to 1, above which the job is paused"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("failure_checks_job_id_fkey")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("failure_checks_pkey")),
        comment="checks of the first items of jobs; a row ends with its check: a resumed job is not paused again",
    )
    for name, (query, meaning, columns) in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")
        op.execute(f"COMMENT ON VIEW {name} IS '{meaning}'")
        for column, words in columns.items():
            op.execute(f"COMMENT ON COLUMN {name}.{column} IS '{words}'")


def downgrade() -> None:
    for name in VIEWS:
        op.execute(f"DROP VIEW {name}")
    op.drop_table("failure_checks")
    op.drop_table("reports")
    op.drop_column("jobs", "pause_reason")
