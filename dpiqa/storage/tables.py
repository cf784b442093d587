r"""Tables of the ledger, as Alembic compares them with the database. Triggers live in the migrations.

`jobs`, `images` and `items` say what is to be done and how it ended, `scores` what each model returned, `results`
which score counts. Lock order of every transaction: bucket (advisory), jobs, images, items, scores, results, measures;
rows by id, computed scores by content hash. No code locks two of these in another order. The meaning of each column is
its comment, which the database has, too (`\d+`).
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    literal_column,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from dpiqa.doorbell import Queue
from dpiqa.storage.columns import (
    counter_column,
    enum_column,
    finite,
    flag_column,
    list_column,
    profile_column,
    time_column,
)
from dpiqa.types import (
    REASONS_OF,
    ItemState,
    JobKind,
    JobState,
    Reason,
    ResultStatus,
    Route,
    Stage,
    SweepAction,
)

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)

OPEN_JOB_STATES = (JobState.LISTING, JobState.RUNNING, JobState.WATCHING)
OPEN_ITEM_STATES = (ItemState.QUEUED, ItemState.LEASED)
UNSCORED_STATES = (
    ItemState.REJECTED,
    ItemState.SUPERSEDED,
    ItemState.DELETED,
    ItemState.DEAD,
    ItemState.CANCELLED,
)
MAX_PRIORITY = 10  #: of a job; the least is its negative


def _reason_rule() -> str:
    """Return the condition that an item has a reason if and only if it ended unscored, and one of its state's."""
    ended = [
        f"state = '{state}' AND reason IN ({', '.join(repr(str(reason)) for reason in sorted(reasons))})"
        for state, reasons in REASONS_OF.items()
    ]
    bare = ", ".join(repr(str(state)) for state in (ItemState.QUEUED, ItemState.LEASED, ItemState.SCORED))
    return " OR ".join([f"state IN ({bare}) AND reason IS NULL", *sorted(ended)])


profiles = Table(
    "profiles",
    metadata,
    Column("id", Text, primary_key=True, comment="name@version, e.g. default@1"),
    Column("definition", JSONB, nullable=False, comment="the profile as it was when a job first used it"),
    time_column("first_seen_at", "when a job first used it, or it was saved", now=True),
    Column("client", Text, comment="name of the API key that saved it; NULL: no stored key did"),
    comment="profiles that jobs used, or that were saved; never changed",
)

scorers = Table(
    "scorers",
    metadata,
    Column("id", Text, primary_key=True, comment="model, weights, preprocessing, precision, and requirement if any"),
    Column("card", JSONB, nullable=False, comment="model card at its first score; its references are kept current"),
    time_column("first_seen_at", "when its first score was recorded", now=True),
    comment="scorers that have scored",
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid, primary_key=True, comment="random, made when the job is submitted"),
    enum_column(
        "kind", JobKind, "origin of its items: a prefix, a list, a manifest, an inventory, a folder, or events"
    ),
    Column("bucket", Text, nullable=False, comment="bucket of all its images; empty where a manifest names several"),
    Column("prefix", Text, nullable=False, comment="keys begin with it; empty for the whole bucket and for a list"),
    Column("profile", Text, ForeignKey("profiles.id"), nullable=False, comment="profile of its scores"),
    list_column("further_profiles", "ids of the other profiles that score its images"),
    enum_column("state", JobState, "written by listing, by the last record and by the sweeper", check=True),
    enum_column("queue", Queue, "queue of its student items: live or bulk"),
    time_column("created_at", "when it was submitted", now=True),
    time_column("listed_at", "when all its items were known; NULL before, and for a watch"),
    time_column("finished_at", "when it completed or failed; NULL before"),
    Column("source", JSONB, comment="address, format and filters of its source; NULL: all of the prefix or list"),
    Column("tally", JSONB, comment="objects taken and passed over, and malformed rows, up to cursor; NULL: none"),
    Column(
        "cursor", Text, comment="last key or row that was listed, as its source writes it; a lister resumes after it"
    ),
    time_column("listing_lease_until", "end of its lister's lease; NULL: no worker lists it"),
    counter_column("listing_attempt", "fence of its lister: each start of a listing adds 1"),
    Column("idempotency_key", Text, unique=True, comment="chosen by the client; the same one gives the same job"),
    Column("request_hash", Text, comment="SHA-256 (hex) of the request that came with the idempotency key"),
    counter_column("scored_by_student", "its images that the student scored; the cap is a share of them", big=True),
    counter_column("escalated", "of those, the images that were sent to the teacher", big=True),
    Column("error", Text, comment="why it failed, in one line"),
    Column("pause_reason", Text, comment="why it was paused by itself; NULL: it was not, or it was resumed"),
    Column(
        "priority",
        SmallInteger,
        nullable=False,
        server_default=literal_column("0"),
        comment="each step doubles its share of a window; -10 to 10",
    ),
    time_column("active_since", "when it was started, resumed or reopened last; NULL before, and while it is paused"),
    Column(
        "active_seconds",
        Double,
        nullable=False,
        server_default=literal_column("0"),
        comment="seconds of work before active_since",
    ),
    time_column("deleted_at", "when a user deleted it; its row stays, because results and scores refer to it"),
    time_column("pruned_at", "when the removal of its ended items was last requested; NULL: never"),
    Column("client", Text, comment="name of the API key that submitted it; NULL: no stored key did"),
    Column("grants", ARRAY(Text), comment="buckets and prefixes that the key is limited to; NULL: no limit"),
    flag_column("details", "whether its pictures are measured"),
    CheckConstraint(f"priority >= -{MAX_PRIORITY} AND priority <= {MAX_PRIORITY}", name="priority"),
    CheckConstraint(f"queue IN ('{Queue.LIVE}', '{Queue.BULK}')", name="queue"),
    CheckConstraint(
        "(kind = 'watch') = (state = 'watching') OR state IN ('paused', 'complete', 'failed', 'cancelled')",
        name="watch",
    ),
    comment="submitted work: a prefix, a list of keys, or a standing watch",
)
Index("jobs_newest", jobs.c.created_at, jobs.c.id)
Index("jobs_open", jobs.c.state, postgresql_where=jobs.c.state.in_(OPEN_JOB_STATES))
Index(
    "jobs_one_watch",
    jobs.c.bucket,
    jobs.c.prefix,
    jobs.c.profile,
    unique=True,
    postgresql_where=(jobs.c.kind == JobKind.WATCH) & jobs.c.state.in_((JobState.WATCHING, JobState.PAUSED)),
)

sweeps = Table(
    "sweeps",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="order of the requests"),
    Column("job_id", Uuid, ForeignKey("jobs.id"), nullable=False, comment="the job"),
    enum_column("action", SweepAction, "what happens to its items", check=True),
    enum_column("state", ItemState, "retry: items in this state; NULL for other actions", nullable=True),
    Column("reasons", ARRAY(Text), comment="retry: items with one of these reasons; NULL for any"),
    Column(
        "after",
        BigInteger,
        nullable=False,
        server_default=literal_column("0"),
        comment="retry: image id of the last item that was reopened",
    ),
    time_column("before", "prune: items that ended before it; NULL: all, of a job that was deleted"),
    time_column("requested_at", "when the user asked for it", now=True),
    comment="changes of many items of one job that the sweeper makes in batches; a row ends with its last batch",
)
Index("sweeps_job", sweeps.c.job_id)

job_profiles = Table(
    "job_profiles",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id"), primary_key=True, comment="a job of several profiles"),
    Column("profile", Text, ForeignKey("profiles.id"), primary_key=True, comment="one of jobs.further_profiles"),
    counter_column("scored_by_student", "as in jobs, under this profile", big=True),
    counter_column("escalated", "as in jobs, under this profile", big=True),
    comment="how many images each further profile of a job has scored and escalated, written by record",
)

job_keys = Table(
    "job_keys",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id"), primary_key=True, comment="a job of kind list"),
    Column("position", Integer, primary_key=True, autoincrement=False, comment="order in the request, from 1"),
    Column("key", Text, nullable=False, comment="object key; each once per job"),
    comment="keys of jobs of kind list, written with the job",
)

images = Table(
    "images",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="id of one version of one object"),
    Column("bucket", Text, nullable=False, comment="bucket of the object"),
    Column("key", Text, nullable=False, comment="object key, decoded"),
    Column("etag", Text, nullable=False, comment="identity of the bytes, without quotes; empty if not known yet"),
    Column("version_id", Text, comment="version id of the store, where the bucket is versioned"),
    Column("size", BigInteger, comment="size in bytes, where an event or a listing names it"),
    time_column("last_modified", "when it was written, by the store's clock or by the event"),
    time_column(
        "news_at", "time of its latest event, removals included, by the store's clock; observed_at in the code"
    ),
    Column("sequencer", Text, comment="AWS sequencer (hex) of that event; orders events of one key"),
    Column("current", Boolean, nullable=False, comment="whether the store holds this version, as far as is known"),
    time_column("deleted_at", "when its removal was noticed; NULL: not removed"),
    time_column("first_seen_at", "when it was first named by an event, a listing or a worker", now=True),
    counter_column("access_news", "news of access that came while a worker held one of its items"),
    UniqueConstraint("bucket", "key", "etag"),
    CheckConstraint("NOT current OR deleted_at IS NULL", name="current"),
    comment="stored versions of object keys, written by ingest and by record",
)
# Of bytes, not of a language: it also reads current keys in the order in which S3 lists them (ORDER BY key USING ~<~).
Index(
    "images_current_by_key",
    images.c.bucket,
    images.c.key,
    unique=True,
    postgresql_where=images.c.current,
    postgresql_ops={"key": "text_pattern_ops"},
)

items = Table(
    "items",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="named by doorbell messages"),
    Column("job_id", Uuid, ForeignKey("jobs.id"), nullable=False, comment="the job"),
    Column("image_id", BigInteger, ForeignKey("images.id"), nullable=False, comment="the image"),
    profile_column("id of the profile that scores it, one of jobs.further_profiles; empty: jobs.profile"),
    enum_column("stage", Stage, "the model it waits for, or ended with", check=True),
    enum_column("state", ItemState, "written by ingest, claim, record and the sweeper"),
    enum_column("queue", Queue, "the Celery queue that its messages go to"),
    counter_column("attempt", "the fence: each claim and each reopening adds 1, and only its holder may record"),
    counter_column("crashes", "leases of this stage that ran out"),
    counter_column("errors", "failures of this stage that are not the image's fault"),
    Column("owner", Text, comment="the worker that claimed it last"),
    time_column("lease_until", "end of its lease; set if and only if it is leased"),
    time_column("not_before", "earliest time of its next claim; set by postponements and retries", now=True),
    time_column("rung_at", "when a doorbell was last rung for it; NULL: it waits for the feeder"),
    enum_column("reason", Reason, "why it ended unscored; set if and only if it did", nullable=True),
    Column("detail", Text, comment="the last error in words, up to 500 characters"),
    enum_column("route", Route, "why it was, or was not, sent to the teacher; NULL before the student", nullable=True),
    flag_column("reused", "whether its scores so far were known before, so that nothing was computed for it"),
    time_column("created_at", "when it was added to the job", now=True),
    time_column("finished_at", "when it ended; set if and only if it has"),
    UniqueConstraint("job_id", "image_id", "profile"),
    CheckConstraint(_reason_rule(), name="reason"),
    CheckConstraint("(state = 'leased') = (lease_until IS NOT NULL)", name="lease"),
    CheckConstraint("(state IN ('queued', 'leased')) = (finished_at IS NULL)", name="finished"),
    comment="one image in one job, to be scored under one profile",
    postgresql_with={"autovacuum_vacuum_scale_factor": 0.05},  # every update leaves a dead row: see migration 0015
)
_QUEUED = items.c.state == ItemState.QUEUED
Index("items_unrung", items.c.job_id, items.c.queue, items.c.id, postgresql_where=_QUEUED & items.c.rung_at.is_(None))
Index(
    "items_rung",
    items.c.job_id,
    items.c.queue,
    items.c.rung_at,
    postgresql_where=_QUEUED & items.c.rung_at.is_not(None),
)
Index("items_leased", items.c.lease_until, postgresql_where=items.c.state == ItemState.LEASED)
Index("items_suspect", items.c.owner, postgresql_where=(items.c.state == ItemState.LEASED) & (items.c.crashes > 0))
Index("items_open_image", items.c.image_id, postgresql_where=items.c.state.in_(OPEN_ITEM_STATES))
Index("items_ended_image", items.c.image_id, postgresql_where=items.c.finished_at.is_not(None))
Index(
    "items_unscored",
    items.c.job_id,
    items.c.state,
    items.c.image_id,
    postgresql_where=items.c.state.in_(UNSCORED_STATES),
)

scores = Table(
    "scores",
    metadata,
    Column("image_id", BigInteger, ForeignKey("images.id"), primary_key=True, comment="the image"),
    Column("scorer_id", Text, ForeignKey("scorers.id"), primary_key=True, comment="the scorer"),
    Column("score", Double, nullable=False, comment="on the scorer's scale, mostly MOS/100; finite"),
    Column("etag", Text, nullable=False, comment="ETag of the bytes that were read"),
    Column("version_id", Text, comment="version id of the store for those bytes"),
    time_column("scored_at", "when it was recorded", now=True),
    Column("attempt", Integer, nullable=False, comment="fence (items.attempt) of the claim that recorded it"),
    Column("job_id", Uuid, ForeignKey("jobs.id"), nullable=False, comment="the job that was scored for"),
    Column("content_hash", LargeBinary, comment="SHA-256 of the bytes that were read; NULL: not computed"),
    Column("copied_from", BigInteger, comment="image of the same bytes whose score this is; NULL: it was computed"),
    finite("score"),
    comment="what each scorer returned for each image: the first score stays, written by record",
)
#: One computed score for the same bytes and scorer. Hashed, because scorer ids are long.
Index(
    "scores_one_content",
    scores.c.content_hash,
    func.hashtextextended(scores.c.scorer_id, literal_column("0")),
    unique=True,
    postgresql_where=scores.c.content_hash.is_not(None) & scores.c.copied_from.is_(None),
)

results = Table(
    "results",
    metadata,
    Column("image_id", BigInteger, ForeignKey("images.id"), primary_key=True, comment="the image"),
    Column("profile", Text, ForeignKey("profiles.id"), primary_key=True, comment="the profile"),
    Column("score", Double, nullable=False, comment="the score that counts, on the scale of scorer_id; finite"),
    Column("scorer_id", Text, ForeignKey("scorers.id"), nullable=False, comment="the scorer that returned it"),
    enum_column("stage", Stage, "the model that returned it"),
    enum_column("status", ResultStatus, "provisional while the teacher is awaited, then final", check=True),
    enum_column("route", Route, "why the teacher was, or was not, asked"),
    Column("student_score", Double, comment="score of the student, if it scored"),
    Column("teacher_score", Double, comment="score of the teacher, if it scored"),
    Column("bucket", Text, nullable=False, comment="as in images, for filters"),
    Column("key", Text, nullable=False, comment="as in images, for filters"),
    Column("etag", Text, nullable=False, comment="ETag of the bytes that were scored"),
    Column("current", Boolean, nullable=False, comment="as in images, kept equal by ingest"),
    Column("job_id", Uuid, ForeignKey("jobs.id"), nullable=False, comment="the job that made it"),
    time_column("updated_at", "when the score or its status last changed", now=True),
    finite("score"),
    comment="the score that counts for an image under a profile, written by record",
)
_CURRENT = results.c.current
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

#: Items by profile, stage, state, ...: `job_counts` plus the sum of `count_changes`, which triggers write and
#: the sweeper folds in. Changes are appended: a counter row that all transactions update makes them deadlock.
job_counts = Table(
    "job_counts",
    metadata,
    Column("job_id", Uuid, primary_key=True, comment="the job"),
    enum_column("stage", Stage, "as in items", primary_key=True),
    enum_column("state", ItemState, "as in items", primary_key=True),
    Column("reason", Text, primary_key=True, comment="as in items, empty if none"),
    profile_column("as in items", primary_key=True),
    Column("n", BigInteger, nullable=False, comment="number of items with these values"),
    counter_column("reused", "of those, the items whose scores were known before", big=True),
    comment="counts of items up to the last sweep, written by the sweeper; count_changes has what came since",
)

count_changes = Table(
    "count_changes",
    metadata,
    Column("job_id", Uuid, nullable=False, comment="the job"),
    enum_column("stage", Stage, "as in items"),
    enum_column("state", ItemState, "as in items"),
    Column("reason", Text, nullable=False, comment="as in items, empty if none"),
    profile_column("as in items"),
    Column("n", BigInteger, nullable=False, comment="items that now have these values, less those that no longer do"),
    counter_column("reused", "change of the number of them whose scores were known before", big=True),
    time_column("at", "when they changed; the rate of a job is read from it", now=True),
    comment="changes of counts, written by triggers on items, folded into job_counts by the sweeper",
)
Index("count_changes_job", count_changes.c.job_id)

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True, comment="stage@host:pid:random, made when it starts"),
    enum_column("stage", Stage, "the model that it serves"),
    Column("host", Text, nullable=False, comment="name of its machine"),
    Column("pid", Integer, nullable=False, comment="its process id on that machine"),
    Column("scorer_id", Text, nullable=False, comment="the scorer that it serves"),
    Column("device", Text, comment="what its scorer runs on; NULL: it does not say"),
    time_column("started_at", "when the process started, by its first heartbeat", now=True),
    time_column("seen_at", "when its last heartbeat arrived", now=True),
    comment="worker processes, written by their heartbeats",
)
