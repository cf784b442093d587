"""The tables of the ledger, as Alembic compares them with the database. Triggers live in the migrations.

`jobs`, `images` and `items` say what is to be done and what became of it, `scores` what each model said,
`results` which score counts. Lock order of every transaction: bucket (advisory), jobs, images, items, results,
scores; rows by id. Nothing else takes two of them.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from dpiqa.types import REASONS_OF, ItemState

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)

_NOW = func.clock_timestamp()


def _time(name: str, *, now: bool = False) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=not now, server_default=_NOW if now else None)


def _count(name: str) -> Column[Any]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


def _finite(column: str) -> CheckConstraint:
    """NaN is equal to itself and larger than everything in Postgres: it would lead every descending page."""
    return CheckConstraint(f"{column} > '-Infinity' AND {column} < 'Infinity'", name=f"{column}_finite")


def _reasons_belong() -> str:
    ends = [
        f"state = '{state}' AND reason IN ({', '.join(repr(str(reason)) for reason in sorted(reasons))})"
        for state, reasons in REASONS_OF.items()
    ]
    bare = ", ".join(repr(str(state)) for state in (ItemState.QUEUED, ItemState.LEASED, ItemState.SCORED))
    return " OR ".join([f"state IN ({bare}) AND reason IS NULL", *sorted(ends)])


profiles = Table(
    "profiles",
    metadata,
    Column("id", Text, primary_key=True),
    Column("definition", JSONB, nullable=False),
    _time("first_seen_at", now=True),
)

scorers = Table(
    "scorers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("card", JSONB, nullable=False),
    _time("first_seen_at", now=True),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("bucket", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("profile", Text, ForeignKey("profiles.id"), nullable=False),
    Column("state", Text, nullable=False),
    Column("queue", Text, nullable=False),
    _time("created_at", now=True),
    _time("listed_at"),
    _time("finished_at"),
    Column("cursor", Text),
    _time("listing_lease_until"),
    Column("listing_attempt", Integer, nullable=False, server_default=text("0")),
    Column("idempotency_key", Text, unique=True),
    Column("request_hash", Text),
    _count("scored_by_student"),
    _count("escalated"),
    Column("error", Text),
    CheckConstraint("queue IN ('live', 'bulk')", name="queue"),
    CheckConstraint("state IN ('listing', 'running', 'watching', 'complete', 'failed')", name="state"),
    CheckConstraint("(kind = 'watch') = (state = 'watching') OR state IN ('complete', 'failed')", name="watch"),
)
Index("jobs_newest", jobs.c.created_at, jobs.c.id)
Index("jobs_open", jobs.c.state, postgresql_where=text("state IN ('listing', 'running', 'watching')"))
Index(
    "jobs_one_watch",
    jobs.c.bucket,
    jobs.c.prefix,
    jobs.c.profile,
    unique=True,
    postgresql_where=text("state = 'watching'"),
)

#: The keys of a job of kind `list`; see `dpiqa.storage.jobs`.
job_keys = Table(
    "job_keys",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("key", Text, nullable=False),
)

images = Table(
    "images",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("bucket", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("etag", Text, nullable=False),
    Column("version_id", Text),
    Column("size", BigInteger),
    _time("last_modified"),
    _time("news_at"),  # of the last news of this version, its removal included, by the store's clock
    Column("sequencer", Text),  # likewise
    Column("current", Boolean, nullable=False),
    _time("deleted_at"),
    _time("first_seen_at", now=True),
    UniqueConstraint("bucket", "key", "etag"),
    CheckConstraint("NOT current OR deleted_at IS NULL", name="current"),
)
Index("images_one_current", images.c.bucket, images.c.key, unique=True, postgresql_where=text("current"))

items = Table(
    "items",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("job_id", Uuid, ForeignKey("jobs.id"), nullable=False),
    Column("image_id", BigInteger, ForeignKey("images.id"), nullable=False),
    Column("stage", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("attempt", Integer, nullable=False, server_default=text("0")),  # the fence: each claim raises it
    Column("crashes", Integer, nullable=False, server_default=text("0")),
    Column("errors", Integer, nullable=False, server_default=text("0")),
    Column("owner", Text),
    _time("lease_until"),
    _time("not_before", now=True),
    _time("rung_at"),
    Column("reason", Text),
    Column("detail", Text),
    Column("route", Text),
    _time("created_at", now=True),
    _time("finished_at"),
    UniqueConstraint("job_id", "image_id"),
    CheckConstraint(_reasons_belong(), name="reason"),
    CheckConstraint("stage IN ('student', 'teacher')", name="stage"),
    CheckConstraint("(state = 'leased') = (lease_until IS NOT NULL)", name="lease"),
    CheckConstraint("(state IN ('queued', 'leased')) = (finished_at IS NULL)", name="finished"),
)
Index(
    "items_unrung",
    items.c.job_id,
    items.c.queue,
    items.c.id,
    postgresql_where=text("state = 'queued' AND rung_at IS NULL"),
)
Index(
    "items_rung",
    items.c.job_id,
    items.c.queue,
    items.c.rung_at,
    postgresql_where=text("state = 'queued' AND rung_at IS NOT NULL"),
)
Index("items_leased", items.c.lease_until, postgresql_where=text("state = 'leased'"))
Index("items_suspect", items.c.owner, postgresql_where=text("state = 'leased' AND crashes > 0"))
Index("items_open_image", items.c.image_id, postgresql_where=text("state IN ('queued', 'leased')"))
Index(
    "items_unscored",
    items.c.job_id,
    items.c.state,
    items.c.image_id,
    postgresql_where=text("state IN ('rejected', 'superseded', 'deleted', 'dead')"),
)

scores = Table(
    "scores",
    metadata,
    Column("image_id", BigInteger, ForeignKey("images.id"), primary_key=True),
    Column("scorer_id", Text, ForeignKey("scorers.id"), primary_key=True),
    Column("score", Double, nullable=False),
    Column("etag", Text, nullable=False),  # of the bytes that were read
    Column("version_id", Text),
    _time("scored_at", now=True),
    Column("attempt", Integer, nullable=False),
    Column("job_id", Uuid, ForeignKey("jobs.id"), nullable=False),
    _finite("score"),
)

results = Table(
    "results",
    metadata,
    Column("image_id", BigInteger, ForeignKey("images.id"), primary_key=True),
    Column("profile", Text, ForeignKey("profiles.id"), primary_key=True),
    Column("score", Double, nullable=False),
    Column("scorer_id", Text, ForeignKey("scorers.id"), nullable=False),
    Column("stage", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("student_score", Double),
    Column("teacher_score", Double),
    Column("bucket", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("etag", Text, nullable=False),
    Column("current", Boolean, nullable=False),
    Column("job_id", Uuid, ForeignKey("jobs.id"), nullable=False),
    _time("updated_at", now=True),
    _finite("score"),
    CheckConstraint("status IN ('provisional', 'final')", name="status"),
)
_CURRENT = text("current")
Index("results_by_score", results.c.profile, results.c.score, results.c.image_id, postgresql_where=_CURRENT)
Index(
    "results_by_bucket_score",
    results.c.profile,
    results.c.bucket,
    results.c.score,
    results.c.image_id,
    postgresql_where=_CURRENT,
)
Index("results_by_time", results.c.profile, results.c.updated_at, results.c.image_id, postgresql_where=_CURRENT)
Index("results_by_key", results.c.bucket, results.c.key, postgresql_ops={"key": "text_pattern_ops"})

#: Items by job, stage, state and reason: `job_counts` plus the sum of `count_changes`, which triggers on `items` write
#: and the sweeper folds in. Append-only changes, because a counter row that every transaction updates makes them wait
#: for, and deadlock with, each other.
job_counts = Table(
    "job_counts",
    metadata,
    Column("job_id", Uuid, primary_key=True),
    Column("stage", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("reason", Text, primary_key=True),  # '' if none
    Column("n", BigInteger, nullable=False),
)

count_changes = Table(
    "count_changes",
    metadata,
    Column("job_id", Uuid, nullable=False),
    Column("stage", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("n", BigInteger, nullable=False),
    _time("at", now=True),
)
Index("count_changes_job", count_changes.c.job_id)

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("stage", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("scorer_id", Text, nullable=False),
    _time("started_at", now=True),
    _time("seen_at", now=True),
)

#: Versions of requirements (`dpiqa.requirements`); see `dpiqa.storage.requirements`.
requirements = Table(
    "requirements",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("direction", Text, nullable=False),
    Column("model", Text, nullable=False),  # name of the model that it was, or is to be, checked with
    Column("force", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("request_hash", Text, nullable=False),
    Column("content_hash", Text),  # once the images were read
    Column("error", Text),  # why it was refused
    _time("created_at", now=True),
    _time("finished_at"),
    _time("lease_until"),
    Column("attempt", Integer, nullable=False, server_default=text("0")),  # the fence: each claim raises it
    Column("crashes", Integer, nullable=False, server_default=text("0")),
    UniqueConstraint("name", "version"),
    CheckConstraint("direction IN ('higher is better', 'lower is better')", name="direction"),
    CheckConstraint("state IN ('pending', 'ready', 'refused')", name="state"),
    CheckConstraint("(state = 'pending') = (finished_at IS NULL)", name="finished"),
    CheckConstraint("(state = 'ready') = (content_hash IS NOT NULL)", name="content"),
    CheckConstraint("(state = 'refused') = (error IS NOT NULL)", name="error"),
    CheckConstraint("state = 'pending' OR lease_until IS NULL", name="lease"),
)
Index("requirements_pending", requirements.c.created_at, postgresql_where=text("state = 'pending'"))
Index(
    "requirements_one_content",
    requirements.c.name,
    requirements.c.content_hash,
    unique=True,
    postgresql_where=text("state = 'ready'"),
)

requirement_pairs = Table(
    "requirement_pairs",
    metadata,
    Column("requirement_id", BigInteger, ForeignKey("requirements.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("path", Text, nullable=False),
    Column("score", Double, nullable=False),
    Column("sha256", Text),  # of the bytes that were read
    CheckConstraint("score >= 0 AND score <= 1", name="score"),
)

#: What one checkpoint makes of a requirement: computed once, used by every image.
requirement_features = Table(
    "requirement_features",
    metadata,
    Column("requirement_id", BigInteger, ForeignKey("requirements.id"), primary_key=True),
    Column("scorer_id", Text, primary_key=True),  # of the checkpoint alone: no such scorer need have scored anything
    Column("features", LargeBinary, nullable=False),  # pairs x width, float32, little-endian
    Column("width", Integer, nullable=False),
    Column("loo_srcc", Double),  # not defined where all left-out images are scored alike
    Column("loo_mae", Double, nullable=False),
    Column("loo_scores", ARRAY(Double), nullable=False),  # by position
    Column("contradictions", JSONB, nullable=False),
    _time("made_at", now=True),
    _finite("loo_mae"),
)
