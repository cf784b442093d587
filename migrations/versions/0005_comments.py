"""Comments on tables and columns

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

#: Table: its comment, and those of its columns.
COMMENTS = {
    "count_changes": (
        "changes of counts, written by triggers on items, folded into job_counts by the sweeper",
        {
            "job_id": "the job",
            "stage": "as in items",
            "state": "as in items",
            "reason": "as in items, empty if none",
            "n": "items that now have these values, less those that no longer do",
            "at": "when they changed; the rate of a job is read from it",
        },
    ),
    "images": (
        "stored versions of object keys, written by ingest and by record",
        {
            "id": "id of one version of one object",
            "bucket": "bucket of the object",
            "key": "object key, decoded",
            "etag": "identity of the bytes, without quotes; empty if not known yet",
            "version_id": "version id of the store, where the bucket is versioned",
            "size": "size in bytes, where an event or a listing names it",
            "last_modified": "when it was written, by the store's clock or by the event",
            "news_at": "time of its latest event, removals included, by the store's clock; observed_at in the code",
            "sequencer": "AWS sequencer (hex) of that event; orders events of one key",
            "current": "whether the store holds this version, as far as is known",
            "deleted_at": "when its removal was noticed; NULL: not removed",
            "first_seen_at": "when it was first named by an event, a listing or a worker",
        },
    ),
    "job_counts": (
        "counts of items up to the last sweep, written by the sweeper; count_changes has what came since",
        {
            "job_id": "the job",
            "stage": "as in items",
            "state": "as in items",
            "reason": "as in items, empty if none",
            "n": "number of items with these values",
        },
    ),
    "profiles": (
        "profiles that jobs used; never changed",
        {
            "id": "name@version, e.g. default@1",
            "definition": "the profile as it was when a job first used it",
            "first_seen_at": "when a job first used it",
        },
    ),
    "requirements": (
        "versions of requirements; never overwritten",
        {
            "id": "named by doorbell messages",
            "name": "chosen by the user",
            "version": "numbered from 1 per name",
            "direction": "which end of its scale is better",
            "model": "name of the model that it was, or is to be, checked with",
            "force": "whether pairs that contradict each other are accepted",
            "state": "written by the worker that prepares it",
            "request_hash": "SHA-256 (hex) of pairs, direction, model and force",
            "content_hash": "SHA-256 (hex) of the images' bytes, scores and direction; set when ready",
            "error": "why it was refused",
            "created_at": "when it was requested",
            "finished_at": "when it became ready or was refused; NULL before",
            "lease_until": "end of the lease of the worker that prepares it; NULL: none does",
            "attempt": "fence of the worker that prepares it: each start adds 1",
            "crashes": "workers that died while they prepared it",
        },
    ),
    "scorers": (
        "scorers that have scored",
        {
            "id": "model, weights, preprocessing, precision, and requirement if any",
            "card": "model card at its first score; its references are kept current",
            "first_seen_at": "when its first score was recorded",
        },
    ),
    "workers": (
        "worker processes, written by their heartbeats",
        {
            "id": "stage@host:pid:random, made when it starts",
            "stage": "the model that it serves",
            "host": "name of its machine",
            "pid": "its process id on that machine",
            "scorer_id": "the scorer that it serves",
            "started_at": "when the process started, by its first heartbeat",
            "seen_at": "when its last heartbeat arrived",
        },
    ),
    "jobs": (
        "submitted work: a prefix, a list of keys, or a standing watch",
        {
            "id": "random, made when the job is submitted",
            "kind": "where its items come from: prefix (listed once), list (named keys), watch (events)",
            "bucket": "bucket of all its images",
            "prefix": "keys begin with it; empty for the whole bucket and for a list",
            "profile": "profile of its scores",
            "state": "written by listing, by the last record and by the sweeper",
            "queue": "queue of its student items: live or bulk",
            "created_at": "when it was submitted",
            "listed_at": "when all its items were known; NULL before, and for a watch",
            "finished_at": "when it completed or failed; NULL before",
            "cursor": "last key (prefix) or position (list) that was listed; a lister resumes after it",
            "listing_lease_until": "end of its lister's lease; NULL: no worker lists it",
            "listing_attempt": "fence of its lister: each start of a listing adds 1",
            "idempotency_key": "chosen by the client; the same one gives the same job",
            "request_hash": "SHA-256 (hex) of the request that came with the idempotency key",
            "scored_by_student": "its images that the student scored; the cap is a share of them",
            "escalated": "of those, the images that were sent to the teacher",
            "error": "why it failed, in one line",
        },
    ),
    "requirement_features": (
        "prompt features of a requirement by one checkpoint, written by the worker that prepares it",
        {
            "requirement_id": "the requirement",
            "scorer_id": "scorer id of the checkpoint, without a requirement",
            "features": "pairs x width, float32, little-endian",
            "width": "numbers per pair",
            "loo_srcc": "leave-one-out SRCC; NULL where all left-out images are scored alike",
            "loo_mae": "leave-one-out mean absolute error, scale 0 to 1",
            "loo_scores": "leave-one-out scores, by position",
            "contradictions": "one sentence each; empty unless forced",
            "made_at": "when they were computed",
        },
    ),
    "requirement_pairs": (
        "image-score pairs of a requirement",
        {
            "requirement_id": "the requirement",
            "position": "order in the request, from 1",
            "path": "absolute path, or s3://bucket/key",
            "score": "score that the image deserves, 0 to 1",
            "sha256": "SHA-256 (hex) of the bytes that were read; NULL before",
        },
    ),
    "items": (
        "one image in one job",
        {
            "id": "named by doorbell messages",
            "job_id": "the job",
            "image_id": "the image",
            "stage": "the model it waits for, or ended with",
            "state": "written by ingest, claim, record and the sweeper",
            "queue": "the Celery queue that its messages go to",
            "attempt": "the fence: each claim and each reopening adds 1, and only its holder may record",
            "crashes": "leases of this stage that ran out",
            "errors": "failures of this stage that are not the image's fault",
            "owner": "the worker that claimed it last",
            "lease_until": "end of its lease; set if and only if it is leased",
            "not_before": "earliest time of its next claim; set by postponements and retries",
            "rung_at": "when a doorbell was last rung for it; NULL: it waits for the feeder",
            "reason": "why it ended unscored; set if and only if it did",
            "detail": "the last error in words, up to 500 characters",
            "route": "why it was, or was not, sent to the teacher; NULL before the student",
            "created_at": "when it was added to the job",
            "finished_at": "when it ended; set if and only if it has",
        },
    ),
    "job_keys": (
        "keys of jobs of kind list, written with the job",
        {
            "job_id": "a job of kind list",
            "position": "order in the request, from 1",
            "key": "object key; each once per job",
        },
    ),
    "results": (
        "the score that counts for an image under a profile, written by record",
        {
            "image_id": "the image",
            "profile": "the profile",
            "score": "the score that counts, on the scale of scorer_id; finite",
            "scorer_id": "the scorer that returned it",
            "stage": "the model that returned it",
            "status": "provisional while the teacher is awaited, then final",
            "route": "why the teacher was, or was not, asked",
            "student_score": "score of the student, if it scored",
            "teacher_score": "score of the teacher, if it scored",
            "bucket": "as in images, for filters",
            "key": "as in images, for filters",
            "etag": "ETag of the bytes that were scored",
            "current": "as in images, kept equal by ingest",
            "job_id": "the job that made it",
            "updated_at": "when the score or its status last changed",
        },
    ),
    "scores": (
        "what each scorer returned for each image: the first score stays, written by record",
        {
            "image_id": "the image",
            "scorer_id": "the scorer",
            "score": "on the scorer's scale, mostly MOS/100; finite",
            "etag": "ETag of the bytes that were read",
            "version_id": "version id of the store for those bytes",
            "scored_at": "when it was recorded",
            "attempt": "fence (items.attempt) of the claim that recorded it",
            "job_id": "the job that was scored for",
        },
    ),
}


def upgrade() -> None:
    for table, (comment, columns) in COMMENTS.items():
        op.create_table_comment(table, comment)
        for column, meaning in columns.items():
            op.alter_column(table, column, comment=meaning)


def downgrade() -> None:
    for table, (_, columns) in COMMENTS.items():
        op.drop_table_comment(table)
        for column in columns:
            op.alter_column(table, column, comment=None)
