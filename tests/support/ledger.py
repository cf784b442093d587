"""A ledger in a real database, with the calls that tests repeat."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from dpiqa.doorbell import Queue
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.base import ModelCard
from dpiqa.profiles import Cutoff, Profile
from dpiqa.retries import retry_transaction
from dpiqa.routing import decide
from dpiqa.storage import claims, feed, results
from dpiqa.storage.counts import read_counts
from dpiqa.storage.engine import transaction
from dpiqa.storage.images import add_images
from dpiqa.storage.items import Scored
from dpiqa.storage.job_queries import get_job
from dpiqa.storage.jobs import create_job, ensure_watch
from dpiqa.storage.listings import finish_listing, start_listing
from dpiqa.types import ImageRef, JobKind, ModelKind, Stage

T0 = datetime(2026, 1, 1, tzinfo=UTC)
STUDENT = ModelCard(
    name="student",
    kind=ModelKind.PIXELS,
    sha256="a" * 64,
    preprocessing=Preprocessing(width=8, height=8),
    licence="none",
)
TEACHER = STUDENT.model_copy(update={"name": "teacher", "sha256": "b" * 64})
#: Scores from 0.4 to 0.6 are borderline; half of a job may be escalated.
BOTH = Profile(
    name="both",
    version=1,
    student="student",
    teacher="teacher",
    cutoffs=(Cutoff(at=0.5, margin=0.1),),
    max_escalated_share=0.5,
)
ALONE = Profile(name="alone", version=1, student="student")

_COUNTED = text(
    "SELECT stage, state, coalesce(reason, '') AS reason, count(*) AS n FROM items WHERE job_id = :id "
    "GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
)


def ref(key, etag="e1", *, at=0.0, sequencer=None, version_id=None, bucket="photos"):
    """An image ref; `at` is seconds after T0 by the store's clock, None for unknown."""
    written = None if at is None else T0 + timedelta(seconds=at)
    return ImageRef(
        bucket=bucket, key=key, etag=etag, last_modified=written, sequencer=sequencer, version_id=version_id, size=7
    )


def refs(n, *, start=0, prefix="k"):
    return [ref(f"{prefix}{i:05}", f"etag-{i}") for i in range(start, start + n)]


class Ledger:
    """Every method is one transaction of its own."""

    def __init__(self, engine, profile=ALONE):
        self.engine, self.profile = engine, profile

    def do(self, function, *args, **kwargs):
        def once():
            with transaction(self.engine) as c:
                return function(c, *args, **kwargs)

        return retry_transaction(once, attempts=20)

    def sql(self, statement, **values):
        with transaction(self.engine) as c:
            result = c.execute(text(statement), values)
            return result.all() if result.returns_rows else []

    def one(self, statement, **values):
        return self.sql(statement, **values)[0][0]

    def job(self, *, kind=JobKind.PREFIX, queue=Queue.BULK, prefix="", bucket="photos", profile=None, **more):
        return self.do(
            create_job,
            kind=kind,
            bucket=bucket,
            prefix=prefix,
            profile=profile or self.profile,
            queue=queue,
            **more,
        )

    def watch(self):
        return self.do(ensure_watch, "photos", "", self.profile)

    def add(self, job, images):
        return self.do(add_images, job, images)

    def submit(self, images, **more):
        """A listed job of these images; returns it and the ids of its waiting items."""
        job = self.do(start_listing, self.job(**more).id, 60)
        ids = self.add(job, images)
        self.do(finish_listing, job)
        return job, ids

    def feed(self, *, window=10_000, chunk=32, rering_seconds=60, empty_queues=(), max_crashes=3, **more):
        return self.do(
            feed.feed,
            window=window,
            chunk=chunk,
            rering_seconds=rering_seconds,
            empty_queues=set(empty_queues),
            max_crashes=max_crashes,
            **more,
        )

    def claim(self, ids, *, stage=Stage.STUDENT, owner="w1", lease_seconds=60, max_crashes=3, **more):
        card = STUDENT if stage is Stage.STUDENT else TEACHER
        return self.do(
            claims.claim,
            ids,
            stage=stage,
            owner=owner,
            lease_seconds=lease_seconds,
            max_crashes=max_crashes,
            scorer_ids={row.id: card.scorer_id for row in self.sql("SELECT id FROM profiles")},
            **more,
        )

    def record(self, outcomes, *, stage=Stage.STUDENT, profile=None, max_errors=5):
        card = STUDENT if stage is Stage.STUDENT else TEACHER
        return self.do(
            results.record, stage, profile or self.profile, card, outcomes, decide=decide, max_errors=max_errors
        )

    def score(self, ids, *, stage=Stage.STUDENT, value=0.9, profile=None):
        """Claim and record; `value` is a score or a function of the claim."""
        claims = self.claim(ids, stage=stage)
        outcomes = [Scored(c, value(c) if callable(value) else value, c.ref.etag) for c in claims]
        return self.record(outcomes, stage=stage, profile=profile)

    def expire(self, ids):
        """Let leases run out without waiting for it."""
        self.sql(
            "UPDATE items SET lease_until = clock_timestamp() - interval '1 s' "
            "WHERE id = ANY(:ids) AND state = 'leased'",
            ids=list(ids),
        )

    def report(self, job):
        return self.do(get_job, job.id)

    def states(self, job):
        """Items by state as the report says, which must be what the items say."""
        self.check_counts(job)
        return {str(state): n for state, n in self.report(job).by_state.items()}

    def item(self, key, *, job=None, etag=None):
        """The row of one item; of the newest job and version unless named."""
        rows = self.sql(
            "SELECT i.*, m.key, m.etag, m.current FROM items i JOIN images m ON m.id = i.image_id "
            "WHERE m.key = :key AND (CAST(:job AS uuid) IS NULL OR i.job_id = :job) "
            "AND (CAST(:etag AS text) IS NULL OR m.etag = :etag) ORDER BY i.id DESC",
            key=key,
            job=job.id if job else None,
            etag=etag,
        )
        return rows[0]

    def current(self, key):
        """The ETag that the ledger takes for current; None if the object is gone."""
        etags = [row.etag for row in self.sql("SELECT etag FROM images WHERE key = :key AND current", key=key)]
        assert len(etags) <= 1
        return etags[0] if etags else None

    def check_counts(self, job):
        """The counts that triggers keep are those of a fresh GROUP BY, seen in one snapshot."""
        with self.engine.connect().execution_options(isolation_level="REPEATABLE READ") as c:
            counted = [tuple(row) for row in c.execute(_COUNTED, {"id": job.id})]
            kept = [(k.stage, k.state, k.reason or "", k.n) for k in read_counts(c, job.id)]
        assert sorted(kept) == counted
