"""Reconciliations against a real S3 and Postgres: what a listing tells that no event told."""

import pytest
from support.photos import png
from support.reconciling import Side, counted

from dpiqa.addresses import S3Address
from dpiqa.doorbell import Queue
from dpiqa.errors import ConfigurationError, Conflict, StoreUnavailable
from dpiqa.pipeline import reconciler as module
from dpiqa.pipeline.feeder import Feeder
from dpiqa.profiles import load_profile
from dpiqa.storage.engine import transaction
from dpiqa.storage.profiles import remember_profile
from dpiqa.storage.steering import cancel_job, pause_job, resume_job
from dpiqa.storage.watches import add_watch, set_schedule
from dpiqa.types import ItemState


@pytest.fixture
def side(archive, s3):
    return Side(archive, s3)


def test_objects_without_an_event_are_found_and_queued_in_a_job(side):
    for name in ("in/a.png", "in/ü b.png", "in/notes.txt", "out/c.png"):
        side.s3.put(name, png(0.3))
    r = side.reconcile("in/")
    assert (r.state, r.error) == ("complete", None)
    assert counted(r, "listed", "missing", "skipped", "deleted") == [3, 2, 1, 0]
    assert r.examples == {"missing": ["in/a.png", "in/ü b.png"]}
    assert side.rows("SELECT id, kind, state FROM jobs") == [(r.job_id, "prefix", "running")]
    assert len(side.archive.doorbell.rung(Queue.BULK)) == 2
    again = side.reconcile("in/")
    assert counted(again, "missing", "waiting") == [0, 2]
    assert again.job_id is None
    assert side.score_all() == 2
    assert counted(side.reconcile("in/"), "missing", "waiting", "unchanged") == [0, 0, 2]
    assert side.rows("SELECT state FROM jobs") == [("complete",)]


def test_lost_events_of_overwritten_and_deleted_objects_are_made_up_for(side):
    for name in "abc":
        side.s3.put(f"{name}.png", png(0.2))
    side.announce()
    assert side.score_all() == 3
    side.s3.put("a.png", png(0.9))
    side.s3.delete("b.png")
    r = side.reconcile()
    assert counted(r, "changed", "deleted", "marked", "unchanged") == [1, 1, 1, 1]
    assert r.examples == {"changed": ["a.png"], "deleted": ["b.png"]}
    assert side.score_all() == 2
    assert side.rows("SELECT key, deleted_at IS NOT NULL FROM images WHERE NOT current ORDER BY key") == [
        ("a.png", False),
        ("b.png", True),
    ]
    assert counted(side.reconcile(), "changed", "deleted", "unchanged") == [0, 0, 2]


def test_a_dry_run_changes_nothing(side):
    side.s3.put("a.png", png(0.2))
    side.announce()
    side.s3.delete("a.png")
    side.s3.put("b.png", png(0.2))
    r = side.reconcile(dry_run=True)
    assert counted(r, "missing", "deleted", "marked") == [1, 1, 0]
    assert side.rows("SELECT key, current FROM images") == [("a.png", True)]
    assert r.job_id is None


def test_an_object_that_came_back_without_an_event_is_current_again(side):
    side.s3.client.put_bucket_versioning(Bucket=side.s3.name, VersioningConfiguration={"Status": "Enabled"})
    side.s3.put("a.png", png(0.2))
    side.announce()
    assert side.score_all() == 1
    marker = side.s3.client.delete_object(Bucket=side.s3.name, Key="a.png")["VersionId"]
    assert counted(side.reconcile(), "marked") == [1]
    assert side.rows("SELECT count(*) FROM results WHERE current") == [(0,)]
    side.s3.client.delete_object(Bucket=side.s3.name, Key="a.png", VersionId=marker)
    assert counted(side.reconcile(), "missing") == [1]
    assert side.rows("SELECT count(*) FROM results WHERE current") == [(1,)]
    assert side.rows("SELECT state FROM items ORDER BY id") == [("scored",), ("scored",)]


def test_an_older_version_that_is_in_the_bucket_again_replaces_the_newer_one(side):
    side.s3.put("a.png", png(0.2))
    old = [ref for page in side.store.list(side.s3.name, "") for ref in page]
    side.s3.put("a.png", png(0.8))
    side.announce()

    class Restored:
        def list(self, *args, **kwargs):
            yield old

    assert counted(side.reconcile(store=Restored()), "changed") == [1]
    assert side.rows("SELECT etag FROM images WHERE current") == [(old[0].etag,)]


def test_a_refused_listing_marks_nothing(side):
    side.s3.put("a.png", png(0.2))
    side.announce()
    side.s3.delete("a.png")

    class Refusing:
        def list(self, *args, **kwargs):
            raise ConfigurationError("bucket b cannot be listed: AccessDenied", hint="grant s3:ListBucket on bucket b")
            yield

    r = side.reconcile(store=Refusing())
    assert (r.state, r.error) == (
        "failed",
        "bucket b cannot be listed: AccessDenied (grant s3:ListBucket on bucket b)",
    )
    assert side.rows("SELECT current FROM images") == [(True,)]


class Breaking:
    """A store whose listing breaks off after some pages of two objects."""

    def __init__(self, store, pages, error, size=2):
        self.store, self.pages, self.error, self.size = store, pages, error, size

    def list(self, bucket, prefix, start_after=None):
        refs = [ref for page in self.store.list(bucket, prefix, start_after) for ref in page]
        for number, start in enumerate(range(0, len(refs), self.size)):
            if number == self.pages:
                raise self.error
            yield refs[start : start + self.size]


def test_a_listing_that_breaks_off_marks_nothing_until_it_was_resumed(side):
    for number in range(8):
        side.s3.put(f"{number}.png", png(0.2))
    side.announce()
    side.s3.delete("0.png")
    side.s3.delete("7.png")
    side.s3.put("35.png", png(0.4))
    with pytest.raises(StoreUnavailable):
        side.reconcile(store=Breaking(side.store, 2, StoreUnavailable("S3 does not answer")))
    assert side.rows("SELECT count(*) FROM images WHERE current") == [(9,)]
    seen = []
    real = side.store.list
    side.store.list = lambda bucket, prefix, start_after=None: (
        seen.append(start_after) or real(bucket, prefix, start_after)
    )
    r = side.reconcile()
    assert (r.attempt, seen) == (2, ["35.png"])
    assert counted(r, "listed", "ledger", "missing", "deleted", "marked") == [7, 8, 1, 2, 2]
    assert side.rows("SELECT key FROM images WHERE deleted_at IS NOT NULL ORDER BY key") == [("0.png",), ("7.png",)]
    assert side.rows("SELECT count(*) FROM jobs WHERE kind = 'prefix'") == [(1,)]


def test_the_ledger_is_read_in_small_steps(side, monkeypatch):
    monkeypatch.setattr(module, "LEDGER_ROWS", 2)
    monkeypatch.setattr(module, "MARKED_ROWS", 2)
    for number in range(7):
        side.s3.put(f"{number}.png", png(0.2))
    side.announce()
    for number in range(1, 7):
        side.s3.delete(f"{number}.png")
    steps = []
    r = side.reconciler(progress=lambda r: steps.append((r.state, r.cursor))).run(side.request().id)
    assert counted(r, "listed", "ledger", "deleted", "marked") == [1, 7, 6, 6]
    assert [cursor for state, cursor in steps if state == "marking"] == ["2.png", "4.png", "6.png"]


def test_a_key_that_an_event_named_after_the_listing_began_is_left_alone(side):
    side.s3.put("a.png", png(0.2))

    class Late:
        """Lists nothing, and meanwhile the event of an object arrives."""

        def list(self, *args, **kwargs):
            side.announce()
            return iter(())

    r = side.reconcile(store=Late())
    assert counted(r, "deleted", "newer") == [0, 1]
    assert side.rows("SELECT current FROM images") == [(True,)]


def test_an_event_between_comparison_and_marking_keeps_the_object(side):
    side.s3.put("a.png", png(0.2), Metadata={"n": "1"})
    side.announce()
    side.rows("UPDATE images SET news_at = news_at - interval '1 hour' RETURNING 1")
    side.s3.delete("a.png")

    def put_back(r):
        if r.state == "comparing":
            side.s3.put("a.png", png(0.2))
            side.announce()

    r = side.reconciler(progress=put_back).run(side.request().id)
    assert counted(r, "deleted", "marked", "kept") == [1, 0, 1]
    assert side.rows("SELECT current FROM images") == [(True,)]


def test_many_deletions_need_permission(side, monkeypatch):
    monkeypatch.setattr(module, "FEW_DELETED", 2)
    for number in range(4):
        side.s3.put(f"{number}.png", png(0.2))
    side.announce()
    for number in range(3):
        side.s3.delete(f"{number}.png")
    r = side.reconcile()
    assert r.state == "failed"
    assert "3 of 4 objects are not in the bucket, over 50 %" in r.error
    assert side.rows("SELECT count(*) FROM images WHERE current") == [(4,)]
    assert counted(side.reconcile(max_deleted=100), "marked") == [3]


def test_a_server_that_lists_out_of_order_is_refused(side):
    for name in "ab":
        side.s3.put(f"{name}.png", png(0.2))
    refs = [ref for page in side.store.list(side.s3.name, "") for ref in page]

    class Unordered:
        def list(self, *args, **kwargs):
            yield refs[::-1]

    assert "not listed in the order of its keys" in side.reconcile(store=Unordered()).error


def test_what_failed_earlier_is_named_and_not_queued_again(side):
    side.s3.put("a.png", b"not an image")
    side.announce()
    side.score_all()
    assert side.rows("SELECT state FROM items") == [(ItemState.REJECTED,)]
    r = side.reconcile()
    assert counted(r, "failed", "missing") == [1, 0]
    assert r.examples == {"failed": ["a.png"]}


def test_another_profile_finds_everything_missing(side):
    side.s3.put("a.png", png(0.2))
    side.announce()
    assert side.score_all() == 1
    side.profile = load_profile("smoke").model_copy(update={"name": "other"})
    with transaction(side.archive.engine) as c:
        remember_profile(c, side.profile)
    assert counted(side.reconcile(), "missing", "unchanged") == [1, 0]


def test_a_job_that_is_paused_and_resumed_meanwhile_gets_no_other_objects(side):
    """A resumed job would be listed as a whole, if it counted as not listed yet."""
    for number in range(6):
        side.s3.put(f"{number}.png", png(0.2))
    side.announce()
    side.score_all()
    for number in range(6):
        side.s3.put(f"{number}+.png", png(0.2))
    steps = []

    def steer(r):
        steps.append(r.cursor)
        with transaction(side.archive.engine) as c:
            if len(steps) == 2:
                pause_job(c, r.job_id)
            if len(steps) == 4:
                assert resume_job(c, r.job_id).state == "running"

    r = side.reconciler(Breaking(side.store, 9, None), progress=steer).run(side.request().id)
    assert (r.state, r.counts["missing"]) == ("complete", 6)
    assert side.rows("SELECT state, listing_lease_until FROM jobs WHERE id = :id", id=r.job_id) == [("running", None)]
    assert side.rows("SELECT count(*) FROM items WHERE job_id = :id", id=r.job_id) == [(6,)]


def test_a_paused_job_stays_paused_and_a_cancelled_one_ends_the_run(side):
    for name in ("a.png", "b.png"):
        side.s3.put(name, png(0.2))
    one_by_one = Breaking(side.store, 9, None, size=1)

    def by(action):
        def steer(r):
            if r.job_id and r.cursor == "a.png":
                with transaction(side.archive.engine) as c:
                    action(c, r.job_id)

        return steer

    r = side.reconciler(one_by_one, progress=by(pause_job)).run(side.request().id)
    assert side.rows("SELECT state, listing_lease_until FROM jobs WHERE id = :id", id=r.job_id) == [("paused", None)]
    with transaction(side.archive.engine) as c:
        assert resume_job(c, r.job_id).state == "running"
        cancel_job(c, r.job_id)
    side.rows("DELETE FROM items RETURNING 1")
    r = side.reconciler(one_by_one, progress=by(cancel_job)).run(side.request().id)
    assert (r.state, "was cancelled" in r.error) == ("failed", True)


def test_a_stopping_worker_leaves_the_rest_to_another(side):
    side.s3.put("a.png", png(0.2))
    asked = side.request()
    worker = side.reconciler()
    worker._stopping.set()
    worker.work_on(str(asked.id))
    assert side.rows("SELECT state, lease_until FROM reconciliations") == [("comparing", None)]
    r = side.reconciler().run(asked.id)
    assert (r.state, counted(r, "listed", "missing")) == ("complete", [1, 1])


def test_a_schedule_is_rung_by_the_sweeper_and_run_by_a_worker(side):
    side.s3.put("in/a.png", png(0.2))
    with transaction(side.archive.engine) as c:
        added = add_watch(c, S3Address(side.s3.name, "in/"), side.profile, backfill=False)
        set_schedule(c, added.watch.job.id, 3600)
    side.rows("UPDATE watches SET reconcile_due_at = clock_timestamp() RETURNING 1")
    feeder = Feeder(side.archive.engine, side.archive.doorbell, side.archive.settings)
    feeder.poll()
    (rung,) = side.archive.doorbell.reconciliations
    side.archive.store = side.store
    worker = side.archive.worker()
    worker.reconciler.work_on(rung)
    feeder.poll()
    assert side.archive.doorbell.reconciliations == [rung]
    assert side.rows("SELECT state, watch_id, counts->'missing' FROM reconciliations") == [
        ("complete", added.watch.job.id, 1)
    ]


def test_an_outage_postpones_the_work_of_a_worker(side):
    side.s3.put("a.png", png(0.2))
    asked = side.request()
    side.reconciler(Breaking(side.store, 0, StoreUnavailable("S3 does not answer"))).work_on(str(asked.id))
    Feeder(side.archive.engine, side.archive.doorbell, side.archive.settings).poll()
    assert side.archive.doorbell.reconciliations == [str(asked.id)]


def test_one_at_a_time(side):
    first = side.request()
    assert side.request().id == first.id  # the same request is the same reconciliation
    with pytest.raises(RuntimeError, match="here"):
        side.reconciler(progress=_raise).run(first.id)  # dies without releasing its lease
    held = side.reconcile()
    assert (held.id, held.state, held.attempt) == (first.id, "comparing", 1)
    with pytest.raises(Conflict, match="with other options"):
        side.request(dry_run=True)
    side.rows("UPDATE reconciliations SET lease_until = clock_timestamp() RETURNING 1")
    other = side.request(dry_run=True)
    assert other.id != first.id
    assert side.rows("SELECT state FROM reconciliations ORDER BY created_at") == [("failed",), ("comparing",)]


def _raise(_):
    raise RuntimeError("dies here")
