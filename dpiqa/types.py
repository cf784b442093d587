"""Terms of the system as types: one meaning each, as in `docs/glossary.md`. Standard library only."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

LOOP_STUCK = 72  #: exit code of a process one of whose loops hung; here, as `--help` shows it and needs no watchdog


class ItemState(StrEnum):
    """State of an item (one image in one job). The last six are terminal: an item ends in exactly one."""

    QUEUED = "queued"  #: waits for a worker of its stage
    LEASED = "leased"  #: held by one worker until `lease_until`
    SCORED = "scored"  #: its result is final
    REJECTED = "rejected"  #: the object cannot be scored; `reason` says why
    SUPERSEDED = "superseded"  #: a newer version of the object took its place
    DELETED = "deleted"  #: the object no longer exists
    DEAD = "dead"  #: given up after repeated crashes, or after errors that the image did not cause
    CANCELLED = "cancelled"  #: not scored, because its job was cancelled or failed


TERMINAL_STATES = frozenset(ItemState) - {ItemState.QUEUED, ItemState.LEASED}


class Reason(StrEnum):
    """Reason why an item ended unscored. A closed list: reports group by it."""

    # rejected
    NOT_FOUND = "not_found"  #: a key named in the request under which there never was an object
    EMPTY = "empty"  #: zero bytes
    NOT_AN_IMAGE = "not_an_image"  #: no known image signature
    UNSUPPORTED_FORMAT = "unsupported_format"  #: an image, but of a format or a kind of it that is not decoded
    UNSUPPORTED_COLOUR = "unsupported_colour"  #: an image whose colours cannot be converted to sRGB, such as HDR
    UNSUPPORTED_ENCODING = "unsupported_encoding"  #: stored with a `Content-Encoding` that is not undone
    DECODER_MISSING = "decoder_missing"  #: an optional format whose decoder the worker has not installed
    TRUNCATED = "truncated"  #: the file ends too early
    CORRUPT = "corrupt"  #: damaged: the decoder refused the data
    TOO_MANY_BYTES = "too_many_bytes"  #: larger than `DPIQA_MAX_IMAGE_BYTES`
    TOO_MANY_PIXELS = "too_many_pixels"  #: more pixels or a longer side than allowed
    DECODE_TIMEOUT = "decode_timeout"  #: took longer to decode than allowed
    DECODE_CRASH = "decode_crash"  #: the decoder process died or ran out of memory
    ACCESS_DENIED = "access_denied"  #: the store denied access to the object
    ARCHIVED = "archived"  #: in a storage class that must be restored first
    UNAVAILABLE = "unavailable"  #: the store failed at this object each time, and returned others of its bucket
    NON_FINITE_SCORE = "non_finite_score"  #: the model answered NaN or infinity, also for the image alone
    DEVICE_MEMORY = "device_memory"  #: does not fit on the device, even alone
    # superseded, deleted
    NEWER_VERSION = "newer_version"  #: the object was overwritten before it was scored
    OBJECT_DELETED = "object_deleted"  #: the object was deleted before it was scored
    # dead
    WORKER_CRASHES = "worker_crashes"  #: three workers died while they held it
    REPEATED_ERRORS = "repeated_errors"  #: every retry failed; `detail` holds the last error
    # cancelled
    JOB_CANCELLED = "job_cancelled"  #: its job was cancelled, or failed, before it was scored


#: Reasons that each unscored state may have.
REASONS_OF: dict[ItemState, frozenset[Reason]] = {
    ItemState.SUPERSEDED: frozenset({Reason.NEWER_VERSION}),
    ItemState.DELETED: frozenset({Reason.OBJECT_DELETED}),
    ItemState.DEAD: frozenset({Reason.WORKER_CRASHES, Reason.REPEATED_ERRORS}),
    ItemState.CANCELLED: frozenset({Reason.JOB_CANCELLED}),
}
REASONS_OF[ItemState.REJECTED] = frozenset(Reason) - frozenset().union(*REASONS_OF.values())


class Cause(StrEnum):
    """Cause of a reason. Decides whether news of the object, an event or a listing that names it, reopens the item."""

    BYTES = "bytes"  #: the bytes: final for this version of the object
    ACCESS = "access"  #: the bytes could not be had: tried again when news of the object comes
    PROCESSING = "processing"  #: neither: a fault of workers, models or devices, or a user's decision


CAUSE_OF: dict[Reason, Cause] = {
    Reason.NOT_FOUND: Cause.ACCESS,
    Reason.EMPTY: Cause.BYTES,
    Reason.NOT_AN_IMAGE: Cause.BYTES,
    Reason.UNSUPPORTED_FORMAT: Cause.BYTES,
    Reason.UNSUPPORTED_COLOUR: Cause.BYTES,
    Reason.DECODER_MISSING: Cause.PROCESSING,
    Reason.UNSUPPORTED_ENCODING: Cause.ACCESS,  # stated beside the bytes: a copy in place corrects it
    Reason.TRUNCATED: Cause.BYTES,
    Reason.CORRUPT: Cause.BYTES,
    Reason.TOO_MANY_BYTES: Cause.BYTES,
    Reason.TOO_MANY_PIXELS: Cause.BYTES,
    Reason.DECODE_TIMEOUT: Cause.BYTES,
    Reason.DECODE_CRASH: Cause.BYTES,
    Reason.ACCESS_DENIED: Cause.ACCESS,
    Reason.ARCHIVED: Cause.ACCESS,
    Reason.UNAVAILABLE: Cause.ACCESS,
    Reason.NON_FINITE_SCORE: Cause.PROCESSING,
    Reason.DEVICE_MEMORY: Cause.PROCESSING,
    Reason.NEWER_VERSION: Cause.ACCESS,
    Reason.OBJECT_DELETED: Cause.ACCESS,
    Reason.WORKER_CRASHES: Cause.PROCESSING,
    Reason.REPEATED_ERRORS: Cause.PROCESSING,
    Reason.JOB_CANCELLED: Cause.PROCESSING,
}
#: Reasons of items that are tried again when news of their object comes.
REOPENED_BY_NEWS = frozenset(reason for reason, cause in CAUSE_OF.items() if cause is Cause.ACCESS)


class DatabaseFault(StrEnum):
    """Subject of an error of Postgres. `dpiqa/storage/sqlstates.py` says which error is which."""

    UNREACHABLE = "unreachable"  #: no connection, or it was lost; the server stops or starts
    READ_ONLY = "read_only"  #: a standby, or set so: reads work, writes do not
    FULL = "full"  #: no disk space or memory
    CONNECTIONS = "connections"  #: all connections are taken, of the server or of this process
    CONTENDED = "contended"  #: a deadlock, a lock that was not free in time, a serialisation failure
    TOO_SLOW = "too_slow"  #: the statement was cancelled, mostly because it took too long
    POOLER = "pooler"  #: a session lost what was prepared in it: a pooler, or a migration
    RIGHTS = "rights"  #: the user lacks a right
    SCHEMA = "schema"  #: a table, column or function is missing: not migrated, or another search path
    LOGIN = "login"  #: user, password or database are refused
    URL = "url"  #: a parameter of the connection is wrong
    VALUE = "value"  #: a value cannot be stored
    ROW = "row"  #: a constraint forbids a row
    UNKNOWN = "unknown"  #: anything else: not now, and never a bad message


class Stage(StrEnum):
    """Stage of an item: the model that it waits for."""

    STUDENT = "student"  #: fast, sees every image
    TEACHER = "teacher"  #: slow, sees the borderline ones


class JobKind(StrEnum):
    """Kind of a job: the origin of its items."""

    PREFIX = "prefix"  #: every object under a bucket's prefix, listed once
    LIST = "list"  #: keys named in the request
    MANIFEST = "manifest"  #: the rows of a manifest, uploaded or in S3
    INVENTORY = "inventory"  #: the objects of an S3 Inventory
    FOLDER = "folder"  #: every file below a folder of the workers' machine, read in place
    WATCH = "watch"  #: the events of a bucket's prefix, until stopped


class JobState(StrEnum):
    """State of a job."""

    LISTING = "listing"  #: its objects are still being listed
    RUNNING = "running"  #: all items known, not all ended
    WATCHING = "watching"  #: a standing watch
    PAUSED = "paused"  #: nothing of it is started; a watch still records events
    COMPLETE = "complete"  #: every item ended, and none will be added
    FAILED = "failed"  #: its objects could not be listed; `error` says why
    CANCELLED = "cancelled"  #: ended by a user; what was scored until then stays


ENDED_JOB_STATES = frozenset({JobState.COMPLETE, JobState.FAILED, JobState.CANCELLED})


class SweepAction(StrEnum):
    """Change of many items of one job, made by the sweeper in batches."""

    CANCEL = "cancel"  #: end the open items
    RETRY = "retry"  #: reopen items that ended unscored
    PRUNE = "prune"  #: delete the items; results and scores stay


class Delivery(StrEnum):
    """Way in which the events of a bucket reach us."""

    QUEUE = "queue"  #: the listener read them from the SQS queue
    HTTP = "http"  #: a server sent them to `POST /v1/events`


class ReconciliationState(StrEnum):
    """State of a reconciliation. The first three are open: a worker or a command goes on with it."""

    LOADING = "loading"  #: the inventory's rows are being read into the database
    COMPARING = "comparing"  #: objects and ledger are being compared, in the order of their keys
    MARKING = "marking"  #: the comparison is complete: objects that were not found are being marked as deleted
    COMPLETE = "complete"  #: everything was compared
    FAILED = "failed"  #: it ended before that; nothing was marked as deleted unless it was marking; `error` says why


OPEN_RECONCILIATION_STATES = frozenset(ReconciliationState) - {
    ReconciliationState.COMPLETE,
    ReconciliationState.FAILED,
}


class Difference(StrEnum):
    """Kind of an object that a reconciliation reports by its key."""

    MISSING = "missing"  #: in the bucket, and never scored or waiting under the profile
    CHANGED = "changed"  #: the bucket holds other bytes than the ledger's
    DELETED = "deleted"  #: current in the ledger, not in the bucket
    FAILED = "failed"  #: unchanged, and an earlier job rejected it or gave it up


class ResultStatus(StrEnum):
    """Status of a result: final, or still to be confirmed by the teacher."""

    PROVISIONAL = "provisional"  #: the student's score; the teacher has been asked
    FINAL = "final"  #: nothing more is planned for this image under this profile


class Precision(StrEnum):
    """Arithmetic that a scorer runs in. Part of its identity."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Backend(StrEnum):
    """Library that computes a student's network. Part of a scorer's identity, unless it is `eager`."""

    AUTO = "auto"  #: a choice, never of a scorer: the fastest that is installed, by a rule in `dpiqa.models.choice`
    EAGER = "eager"  #: PyTorch, operation by operation
    COMPILE = "compile"  #: `torch.compile`
    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"


class Rendition(StrEnum):
    """Part of a file that its pixels come from. All but the first make a preprocessing, and so a scorer, of its own."""

    FULL = "full"  #: the picture, at full scale
    PREVIEW = "preview"  #: the largest preview that is embedded in a camera raw file
    REDUCED = "reduced"  #: a large JPEG, decoded at a half, a quarter or an eighth of its scale


class Route(StrEnum):
    """Route of an image: whether it is sent to the teacher, and why."""

    CLEAR = "clear"  #: no cut-off within its margin: the student decides
    BORDERLINE = "borderline"  #: within the margin of a cut-off: escalated
    BUDGET_SPENT = "budget_spent"  #: borderline, but the escalated share is used up
    NO_TEACHER = "no_teacher"  #: the profile has no teacher


class ScoreOrder(StrEnum):
    """Order of scores; each has an index."""

    LOWEST_FIRST = "score"
    HIGHEST_FIRST = "-score"
    OLDEST_FIRST = "updated"
    NEWEST_FIRST = "-updated"

    @property
    def by_time(self) -> bool:
        """Return whether rows are ordered by the time of their last change instead of by score."""
        return self in (ScoreOrder.OLDEST_FIRST, ScoreOrder.NEWEST_FIRST)

    @property
    def descending(self) -> bool:
        """Return whether the largest value comes first."""
        return self in (ScoreOrder.HIGHEST_FIRST, ScoreOrder.NEWEST_FIRST)


class GroupBy(StrEnum):
    """Property by which results, or the items of a job, are counted apart."""

    BUCKET = "bucket"
    PREFIX = "prefix"  #: the folders directly below the prefix
    PROFILE = "profile"
    MODEL = "model"  #: the scorer
    DAY = "day"  #: of the last change, UTC
    BAND = "band"
    ROUTE = "route"
    STATUS = "status"
    STATE = "state"  #: of the items of a job
    REASON = "reason"  #: of the items of a job that ended unscored


class Direction(StrEnum):
    """Direction of the scores of a requirement: PromptIQA returns scores on the scale of its pairs."""

    HIGHER = "higher is better"
    LOWER = "lower is better"


class Band(StrEnum):
    """Score in a plain word, from worst to best: shares of a reference population, see `dpiqa.percentiles`."""

    BAD = "bad"  #: the worst 10 %
    POOR = "poor"  #: the next 20 %
    FAIR = "fair"  #: the middle 40 %
    GOOD = "good"  #: the next 20 %
    EXCELLENT = "excellent"  #: the best 10 %


class RequirementState(StrEnum):
    """State of one version of a requirement."""

    PENDING = "pending"  #: waits for a worker that reads and checks its pairs
    READY = "ready"  #: usable for scoring
    REFUSED = "refused"  #: `error` says why; the next try is another version


class ExplanationState(StrEnum):
    """State of the explanation of a score."""

    PENDING = "pending"  #: waits for a worker
    READY = "ready"
    FAILED = "failed"  #: `error` says why


class ReportState(StrEnum):
    """State of the report of a job."""

    PENDING = "pending"  #: waits for the end of the job, and then for a worker
    WRITTEN = "written"  #: the object is complete
    FAILED = "failed"  #: `error` says why; the same rows can be had at any time


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRef:
    """One version of one object. Two refs with the same bucket, key and ETag are the same image."""

    bucket: str
    key: str  #: the object key, decoded
    etag: str  #: without quotes; the identity of the bytes
    version_id: str | None = None  #: where the bucket is versioned
    size: int | None = None  #: bytes
    last_modified: datetime | None = None  #: by the store's clock, or the event's time
    sequencer: str | None = None  #: orders AWS events of one key; see `dpiqa.events`


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """An object (or one version of it) that an event says is gone."""

    bucket: str
    key: str
    version_id: str | None = None
    occurred_at: datetime | None = None
    sequencer: str | None = None


class ModelKind(StrEnum):
    """Family of a model."""

    STUDENT = "student"  #: DP-IQA student: EfficientNet
    TEACHER = "teacher"  #: DP-IQA teacher: Stable Diffusion prior
    ONNX = "onnx"  #: the older published student
    PROMPTIQA = "promptiqa"  #: scores by a requirement's image-score pairs
    PIXELS = "pixels"  #: a known function of the pixels, for tests and smoke runs
    PLUGIN = "plugin"  #: of another package, see docs/plugins.md


class KeyScope(StrEnum):
    """The kind of requests that an API key permits."""

    READ = "read"  #: jobs, scores, statistics and reports
    SUBMIT = "submit"  #: jobs, watches, requirements and reconciliations, their changes, and events
    EVENTS = "events"  #: `POST /v1/events` alone: for the sender of a bucket's events
    ADMIN = "admin"  #: everything, and the audit


class AuditAction(StrEnum):
    """The kind of an entry of the audit."""

    SUBMIT = "submit"  #: a job or a watch was submitted
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"  #: a job, or the end of a watch
    RETRY = "retry"
    PRIORITY = "priority"
    DELETE = "delete"  #: a job
    PRUNE = "prune"  #: items of jobs that ended long ago, or results of old versions
    WATCH = "watch"  #: the schedule of a watch was changed
    RECONCILE = "reconcile"
    REQUIREMENT = "requirement"  #: a version of a requirement was submitted
    EXPORT = "export"  #: scores or items were read as a file
    LABEL = "label"  #: images were labelled, or their labels removed
    PROFILE = "profile"  #: a profile was saved
    KEY_CREATE = "key_create"
    KEY_REVOKE = "key_revoke"


class Verdict(StrEnum):
    """The decision of a person about an image."""

    ACCEPT = "accept"
    REJECT = "reject"


class CallbackState(StrEnum):
    """State of the callback of a job."""

    PENDING = "pending"  #: waits for the end of the job, or for the next attempt
    DELIVERED = "delivered"  #: the receiver answered with 2xx
    FAILED = "failed"  #: given up: `error` says why
